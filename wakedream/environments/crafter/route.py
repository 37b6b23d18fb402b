"""Ways over Crafter's map: Dijkstra to the nearest of many cells, mining and bridging what can be.

A cell is a number, (x + 1) * WIDTH + (y + 1), on a map with a border that nobody enters.
"""

import heapq

import numpy as np
from crafter import constants, objects

from wakedream.environments.crafter.engine import Simulator

WIDTH = 66
BLOCKED = 1e9
MATERIAL = {name: index + 1 for index, name in enumerate(constants.materials)}
NAME = {index: name for name, index in MATERIAL.items()}
OPEN = (*constants.walkable, "lava")
MOVES = {-WIDTH: "move_left", WIDTH: "move_right", -1: "move_up", 1: "move_down"}


def cell_of(pos: np.ndarray) -> int:
    return (int(pos[0]) + 1) * WIDTH + int(pos[1]) + 1


class Terrain:
    """The map at one moment, as the player may cross it."""

    def __init__(self, simulator: Simulator):
        self.simulator = simulator
        self.player, self.world = simulator.player, simulator.world
        self.ids = np.zeros((WIDTH, WIDTH), np.uint8)
        self.ids[1:-1, 1:-1] = self.world._mat_map
        self.flat = self.ids.ravel()
        self.here = cell_of(self.player.pos)
        self.step = int(self.player.facing[0]) * WIDTH + int(self.player.facing[1])

    def cells(self, *materials: str) -> list[int]:
        found = self.flat == MATERIAL[materials[0]]
        for name in materials[1:]:
            found |= self.flat == MATERIAL[name]
        return np.flatnonzero(found).tolist()

    def material(self, cell: int) -> str:
        return NAME.get(int(self.flat[cell]), "edge")

    def occupant(self, cell: int) -> objects.Object | None:
        x, y = divmod(cell, WIDTH)
        return self.world[x - 1, y - 1][1]

    def free(self, cell: int) -> bool:
        return self.material(cell) in constants.walkable and self.occupant(cell) is None

    def beside(self, material: str) -> bool:
        """Whether `material` is within one cell, diagonals too: what making a tool asks for."""
        x, y = divmod(self.here, WIDTH)
        return bool((self.ids[x - 1:x + 2, y - 1:y + 2] == MATERIAL[material]).any())

    def meadow(self) -> bool:
        """Whether there is much grass around: where zombies live."""
        x, y = divmod(self.here, WIDTH)
        around = self.ids[max(x - 4, 0):x + 5, max(y - 4, 0):y + 5]
        return int((around == MATERIAL["grass"]).sum()) > 16

    def enclosed(self, room: int = 4) -> bool:
        """Whether at most `room` cells can be walked to: nothing can come in."""
        seen, edge = {self.here}, [self.here]
        while edge and len(seen) <= room:
            cell = edge.pop()
            reached = [cell + s for s in MOVES if cell + s not in seen and self.material(cell + s) in OPEN]
            seen.update(reached)
            edge += reached
        return len(seen) <= room

    def route(self, targets: list[int], limit: float) -> list[int] | None:
        """The cells after the player's up to the nearest target, or None when none is within `limit`."""
        costs, wanted = self._costs(), set(targets) - {self.here}
        best, queue = {self.here: 0.0}, [(0.0, self.here)]
        before: dict[int, int] = {}
        while queue and wanted:
            cost, cell = heapq.heappop(queue)
            if cell in wanted:
                return self._unwind(before, cell)
            if cost > best[cell] or cost > limit:
                continue
            for step in MOVES:
                neighbour = cell + step
                total = cost + (1.0 if neighbour in wanted else costs[neighbour])
                if total < best.get(neighbour, BLOCKED):
                    best[neighbour], before[neighbour] = total, cell
                    heapq.heappush(queue, (total, neighbour))
        return None

    def _unwind(self, before: dict[int, int], cell: int) -> list[int]:
        way = [cell]
        while before[way[-1]] != self.here:
            way.append(before[way[-1]])
        return way[::-1]

    def _costs(self) -> list[float]:
        """Steps to enter each cell: 1 to walk, more to mine, to bridge, or beside creatures and lava."""
        have = self.player.inventory
        by_id = np.full(len(MATERIAL) + 1, BLOCKED)
        for name in constants.walkable:
            by_id[MATERIAL[name]] = 1
        for name, rule in constants.collect.items():
            able = all(have[item] >= number for item, number in rule["require"].items())
            if able and name not in constants.walkable and rule["leaves"] in constants.walkable:
                by_id[MATERIAL[name]] = 2.5
        if have["stone"]:
            by_id[MATERIAL["water"]] = 4
        costs = by_id[self.flat]
        for cell in self.cells("lava"):
            costs[[cell - 1, cell + 1, cell - WIDTH, cell + WIDTH]] += 4
        for other in self.world.objects[1:]:
            cell = cell_of(other.pos)
            costs[cell] += BLOCKED if isinstance(other, objects.Plant) else 4
            if isinstance(other, (objects.Zombie, objects.Skeleton)):
                costs[[cell - 1, cell + 1, cell - WIDTH, cell + WIDTH]] += 3
        return costs.tolist()
