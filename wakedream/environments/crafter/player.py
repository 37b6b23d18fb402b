"""A scripted player of Crafter that reads the simulator's state: competent play to learn a world from.

At every step it picks the most urgent need (danger, thirst, hunger, sleep, then the next achievement), walks
to where it can be met, and uses what it faces. It keeps almost no memory, so that noise may interrupt it
anywhere. A specialist stays alive, too, but wants one thing alone, again and again.
"""

import numpy as np
from crafter import constants, objects

from wakedream.environments.crafter.engine import Simulator
from wakedream.environments.crafter.route import MATERIAL, MOVES, OPEN, WIDTH, Terrain, cell_of

ACTION = {name: index for index, name in enumerate(constants.actions)}
SOURCE = {item: name for name, rule in constants.collect.items() for item in rule["receive"]}
DAY = 300  # steps; darkest at 210
TRUSTED = 5  # steps that a way is followed before it is sought again: creatures move
RETRY = 25  # steps before an unreachable goal is tried again
FOES = {"defeat_skeleton": objects.Skeleton, "defeat_zombie": objects.Zombie}
AIMS = ("collect_drink", "collect_wood", "collect_stone", "collect_coal", "collect_iron", "place_plant", "place_table",
        "place_stone", "eat_cow", "defeat_zombie", "defeat_skeleton")  # what a specialist may want


class CrafterPlayer:
    """`player()` is the next action, an index. One player plays one episode. With an `aim`, one of AIMS, it is a
    specialist."""

    def __init__(self, simulator: Simulator, aim: str | None = None):
        self.simulator, self.aim = simulator, aim or ""
        self.steps = 0
        self.way: list[int] = []
        self.goal: tuple[object, int] = (None, 0)  # what the way leads to, since when
        self.hopeless: dict[object, int] = {}
        self.digging: list[str] = []  # what is left of walling in

    def __call__(self) -> int:
        self.steps += 1
        self.player = self.simulator.player
        if self.player.sleeping:
            return ACTION["noop"]
        self.have, self.done = self.player.inventory, self.player.achievements
        self.terrain = Terrain(self.simulator)
        self.ahead = self.terrain.here + self.terrain.step
        self.facing = self.terrain.material(self.ahead)
        self.near = self.simulator._near()
        self.enclosed = self.terrain.enclosed()
        self.hour = self.simulator._step % DAY
        self.dusk = 100 < self.hour < 165 and not self.enclosed
        needs = (
            self._fight,
            self._hide,
            self._drink,
            self._eat,
            self._sleep,
            *((self._specialty,) if self.aim else (self._plant, self._tools, self._hunt)),
            self._wander,
        )
        return ACTION[next(action for need in needs if (action := need()))]

    def interrupted(self) -> None:
        """Something else has acted: forget the way."""
        self.way, self.digging = [], []

    # Staying alive

    def _fight(self) -> str | None:
        """A zombie that has come near is quicker killed than fled from."""
        reach = 1 if self.done["defeat_skeleton"] else 3
        foes = self._those(objects.Zombie, 2) + self._those(objects.Skeleton, reach)
        action = self._go([cell_of(foe.pos) for foe in foes], "foe", limit=8) if foes else None
        if action:
            self.digging = []
        return action

    def _hide(self) -> str | None:
        """Weak, or on grass at night, where zombies come in numbers: go behind walls, and stay until well."""
        health, dark = self.have["health"], 158 < self.hour < 265
        grass = dark and not self.enclosed and self.terrain.meadow()
        if self.digging or min(self.have["food"], self.have["drink"]) < 2 + self.enclosed:
            return None
        if self.enclosed:
            well = not dark and health > 7
            return None if well else ("sleep" if self.have["energy"] < 8 else "noop")
        return self._shelter(limit=60) if (health < 5 or grass) and self.have["wood_pickaxe"] else None

    def _drink(self) -> str | None:
        if self.facing == "water" and self.have["drink"] < 9:
            return "do"
        return (
            self._go(self.terrain.cells("water"), "water")
            if self.have["drink"] < (7 if self.dusk else 4)
            else None
        )

    def _eat(self) -> str | None:
        food = [
            o
            for o in self.simulator.world.objects
            if isinstance(o, objects.Cow) or (isinstance(o, objects.Plant) and o.ripe)
        ]
        ripe = [o for o in food if isinstance(o, objects.Plant)]
        if ripe and self.have["food"] < 8:
            food = ripe
        elif self.have["food"] >= (5 if self.done["eat_cow"] and not self.dusk else 7):
            return None
        return self._go([cell_of(o.pos) for o in food], "food")

    def _sleep(self) -> str | None:
        """Wall in when tired, at night sooner; a nap by day is safe, and unlocks wake_up."""
        if self.digging:
            return self.digging.pop(0)
        energy, dark = self.have["energy"], self.simulator.world.daylight < 0.4
        alone = self.enclosed or not (self._those(objects.Zombie, 9) or self._those(objects.Skeleton, 9))
        if energy < 1 or (energy < 9 and not self.done["wake_up"] and not dark and alone):
            return "sleep"
        if energy >= (8 if dark else 3):
            return None
        if self.enclosed:
            return "sleep"
        return (
            self._shelter(limit=60)
            if self.have["wood_pickaxe"]
            else ("sleep" if alone and energy < 3 else None)
        )

    def _shelter(self, limit: float) -> str | None:
        """Dig two cells into solid rock, turn round and close the entrance with a stone."""
        entrances = self._entrances()
        if entrances.get(self.terrain.here) == self.terrain.step:
            ahead, back = MOVES[self.terrain.step], MOVES[-self.terrain.step]
            self.digging = [ahead, "do", ahead, back, "place_stone"]
            return "do"
        if self.terrain.here in entrances:
            return MOVES[entrances[self.terrain.here]]
        return self._go(list(entrances), "shelter", limit)

    def _entrances(self) -> dict[int, int]:
        """Walkable cells before two cells of rock with nothing open around them, each with the way in."""
        terrain = self.terrain
        ids = [MATERIAL[name] for name in OPEN]
        walls, rock = ~np.isin(terrain.flat, ids), terrain.flat == MATERIAL["stone"]
        found = {}
        for step in MOVES:
            side = WIDTH if abs(step) == 1 else 1
            first = np.flatnonzero(rock & np.roll(rock, -step))
            around = (side, -side, step + side, step - side, 2 * step)
            good = first[np.all([walls[(first + offset) % len(walls)] for offset in around], axis=0)]
            found.update({cell - step: step for cell in good.tolist() if not walls[cell - step]})
        return found

    # Achievements

    def _plant(self) -> str | None:
        if self.facing != "grass" or not self.terrain.free(self.ahead):
            return None
        if self.have["sapling"]:
            return "place_plant"
        return "do" if self.aim or not self.done["collect_sapling"] else None

    def _tools(self) -> str | None:
        if not self.have["wood_pickaxe"]:
            return self._collect("wood", 5, "forest") or self._make("wood_pickaxe")
        for tool in ("wood_sword", "stone_pickaxe", "stone_sword"):
            if not self.have[tool]:
                return self._make(tool)
        if not self.done["place_stone"]:
            return self._collect("stone", 1) or self._place("stone")
        for tool in ("iron_pickaxe", "iron_sword"):
            if not self.have[tool] and (action := self._make(tool)):
                return action
        return self._collect("diamond", 1 + self.have["diamond"]) if self.have["diamond"] < 9 else None

    def _collect(self, item: str, number: int, goal: str | None = None) -> str | None:
        """Until `number` are in hand: make the tool that it takes, then go to the nearest source."""
        if self.have[item] >= number:
            return None
        for tool in constants.collect[SOURCE[item]]["require"]:
            if not self.have[tool]:
                return self._make(tool)
        return self._go(self.terrain.cells(SOURCE[item]), goal or item)

    def _make(self, tool: str) -> str | None:
        rule = constants.make[tool]
        for item, number in sorted(rule["uses"].items(), key=lambda use: use[0] == "wood"):
            if self.have[item] < number:
                return self._collect(item, number)
        return next(
            (action for place in rule["nearby"] if (action := self._be_beside(place, rule))), f"make_{tool}"
        )

    def _be_beside(self, place: str, rule: dict) -> str | None:
        """Go to the nearest table or furnace, or build one where the next is far."""
        if self.terrain.beside(place):
            return None
        ((item, number),) = constants.place[place]["uses"].items()
        known = self.terrain.cells(place)
        if place == "table" or self.terrain.beside("table"):
            limit = 3 if place == "furnace" else (60 if self.have[item] < number + 1 else 25)
            if known and (action := self._go(known, place, limit)):
                return action
        return self._collect(item, number + rule["uses"].get(item, 0)) or self._place(place)

    def _place(self, thing: str) -> str | None:
        """Place it ahead, or turn to where it can be, staying beside a table if beside one."""
        where = constants.place[thing]["where"]
        if self.facing in where and self.terrain.occupant(self.ahead) is None:
            return f"place_{thing}"
        if self.facing in ("stone", "tree") and (self.facing == "tree" or self.have["wood_pickaxe"]):
            return "do"
        steps = [step for step in MOVES if self.terrain.free(self.terrain.here + step)]
        steps += [
            step for step in MOVES if self.terrain.material(self.terrain.here + step) in ("stone", "tree")
        ]
        return MOVES[steps[self.steps % len(steps)]] if steps else None

    def _hunt(self) -> str | None:
        for name, kind in FOES.items():
            if not self.done[name] and self.have["health"] > 5 and (action := self._seek(kind, name)):
                return action
        return None

    def _specialty(self) -> str | None:
        """The one thing that a specialist wants, whether or not it has been done before."""
        verb, thing = self.aim.split("_", 1)
        if verb == "collect":
            return self._collect(thing, 9)
        if verb == "eat":
            return self._seek(objects.Cow, self.aim)
        if verb == "defeat":
            return self._seek(FOES[self.aim], self.aim) if self.have["health"] > 3 else None
        if thing == "plant":
            return self._plant()
        ((item, number),) = constants.place[thing]["uses"].items()
        return self._collect(item, number) or self._place(thing)

    def _seek(self, kind: type[objects.Object], goal: str) -> str | None:
        return self._go([cell_of(o.pos) for o in self.simulator.world.objects if isinstance(o, kind)], goal)

    def _wander(self) -> str:
        return self._go(self.terrain.cells("grass")[self.steps // 50 % 7 :: 97], "wander") or "noop"

    # Moving

    def _those(self, kind: type, within: int) -> list[objects.Object]:
        return [o for o in self.near if isinstance(o, kind) and self.player.distance(o) <= within]

    def _go(self, targets: list[int], goal: str, limit: float = 150) -> str | None:
        """The next action towards the nearest target, its use when it is ahead; None when out of reach."""
        if self.hopeless.get(goal, 0) > self.steps:
            return None
        here = self.terrain.here
        while self.way and here in self.way:
            self.way = self.way[self.way.index(here) + 1 :]
        known = bool(self.way) and self.way[0] - here in MOVES and self.goal[0] == goal
        if not known or self.steps - self.goal[1] >= TRUSTED:
            self.way = self.terrain.route(targets, limit) or []
            self.goal = (goal, self.steps)
        if not self.way:
            self.hopeless[goal] = self.steps + RETRY
            return None
        return self._advance(self.way[0], last=len(self.way) == 1)

    def _advance(self, cell: int, last: bool) -> str:
        material, other = self.terrain.material(cell), self.terrain.occupant(cell)
        if cell != self.ahead:
            return MOVES[cell - self.terrain.here]  # turns, or walks where it is free
        if other is not None:
            return "noop" if isinstance(other, objects.Arrow) else "do"
        if material in constants.walkable:
            return MOVES[cell - self.terrain.here]
        return "place_stone" if material == "water" and not last else "do"
