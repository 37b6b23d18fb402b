"""Crafter's simulator with seeds that reproduce, quicker; every pixel and every number the same.

Upstream keeps a chunk's objects in sets ordered by memory address, so that one seed plays differently in two
processes; here they keep the order in which they came. What is quicker: noise on Python lists in place of
arrays, the map drawn by one lookup, the inventory drawn only when it changes, distances taken only to what is
near.
"""

import collections
import functools
import types
from typing import Any

import crafter
import numpy as np
import opensimplex.internals
from crafter import constants, engine, objects, worldgen


class _OrderedSet(dict):
    """A set that iterates in the order of insertion."""

    def add(self, item: Any) -> None:
        self[item] = None

    def remove(self, item: Any) -> None:
        del self[item]


class OrderedWorld(engine.World):
    def reset(self, seed: int | None = None) -> None:
        super().reset(seed)
        self._chunks: Any = collections.defaultdict(_OrderedSet)


class _ListSimplex:
    """OpenSimplex whose tables are lists: the package's own function, six times quicker from pure Python."""

    def __init__(self, seed: int):
        self.permutation, self.gradients = (table.tolist() for table in opensimplex.internals._init(seed))

    def noise3(self, x: float, y: float, z: float) -> float:
        return _noise3(x, y, z, self.permutation, self.gradients)


def _extrapolate3(perm, gradients, x, y, z, dx, dy, dz):
    g1, g2, g3 = _GRADIENTS[gradients[(perm[(perm[x & 0xFF] + y) & 0xFF] + z) & 0xFF] // 3]
    return g1 * dx + g2 * dy + g3 * dz


_GRADIENTS = opensimplex.internals.GRADIENTS3.reshape(-1, 3).tolist()
if isinstance(opensimplex.internals._noise3, types.FunctionType):  # else numba has compiled it
    _noise3 = types.FunctionType(opensimplex.internals._noise3.__code__,
                                 {**vars(opensimplex.internals), "_extrapolate3": _extrapolate3})
    worldgen.opensimplex = types.SimpleNamespace(OpenSimplex=_ListSimplex)


class QuickLocalView(engine.LocalView):
    """The map around the player, drawn by looking all its tiles up at once."""

    def __call__(self, player: objects.Player, unit: Any) -> np.ndarray:
        size = (int(unit[0]), int(unit[1]))
        (gx, gy), (ux, uy) = self._grid, size
        ids, object_ids = self.window(player.pos)
        tiles = self._tiles(size)[ids]
        canvas = tiles.transpose(0, 2, 1, 3, 4).reshape(gx * ux, gy * uy, 3)
        for x, y in np.argwhere(object_ids):
            texture = self._textures.get(self._world._objects[object_ids[x, y]].texture, unit)
            engine._draw_alpha(canvas, (x * ux, y * uy), texture)
        canvas = self._light(canvas, self._world.daylight)
        return self._sleep(canvas) if player.sleeping else canvas

    def window(self, pos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids of materials (-1 beyond the edge) and of objects (0 for none) in view."""
        maps = []
        low, high = pos - self._offset, pos - self._offset + self._grid
        inner = tuple(slice(max(a, 0), b) for a, b in zip(low, high, strict=True))
        for source, empty in ((self._world._mat_map, -1), (self._world._obj_map, 0)):
            view = np.full(self._grid, empty, np.int64)
            part = source[inner]
            x, y = np.maximum(-low, 0)
            view[x:x + part.shape[0], y:y + part.shape[1]] = part
            maps.append(view)
        return maps[0], maps[1]

    @functools.cache  # noqa: B019 (a handful of sizes; lives as long as the environment)
    def _tiles(self, unit: tuple[int, int]) -> np.ndarray:
        names = self._world._mat_names
        tiles = [self._textures.get(names[i], unit)[..., :3] for i in range(len(names))]
        return np.stack([*tiles, np.full_like(tiles[0], 127)])


class QuickItemView(engine.ItemView):
    """The inventory, drawn again only when it has changed."""

    def __call__(self, inventory: dict[str, int], unit: Any) -> np.ndarray:
        return self._draw(tuple(inventory.items()), (int(unit[0]), int(unit[1])))

    @functools.lru_cache(256)  # noqa: B019
    def _draw(self, items: tuple[tuple[str, int], ...], unit: tuple[int, int]) -> np.ndarray:
        return super().__call__(dict(items), unit)


class Simulator(crafter.Env):
    """crafter.Env, ordered and quick. `step` returns (reward, dead) and leaves drawing to `render`."""

    def __init__(self, size: tuple[int, int]):
        """size: height and width."""
        super().__init__(size=size[::-1], length=None, seed=0)
        self._last_health: int
        self.new = set[str]()  # achievements unlocked by the last step
        self._world = OrderedWorld(self._area, constants.materials, (12, 12))
        self._local_view: Any = QuickLocalView(self._world, self._textures, (9, 7))
        self._item_view: Any = QuickItemView(self._textures, (9, 2))

    @property
    def world(self) -> engine.World:
        return self._world

    @property
    def player(self) -> objects.Player:
        assert self._player is not None, "reset first"
        return self._player

    def begin(self, seed: int) -> np.ndarray:
        """The first world of `crafter.Env(seed=seed)`; its first frame, uint8 (h w 3)."""
        self._seed, self._episode, self.new = seed, 0, set()
        return self.reset()

    def step(self, action: int) -> tuple[float, bool]:  # type: ignore[override]
        self._step += 1
        self._update_time()
        self.player.action = constants.actions[action]
        self.player.update()
        for other in self._near():
            other.update()
        if self._step % 10 == 0:
            for chunk, others in self._world.chunks.items():
                self._balance_chunk(chunk, others)
        return self._reward_now(), self.player.health <= 0

    def _near(self) -> list[objects.Object]:
        """What upstream updates after the player: all nearer than two views, in the order of their ids."""
        reach = 2 * max(self._view)
        (x, y), ids = self.player.pos, self._world._obj_map
        x0, y0 = max(x - reach, 0), max(y - reach, 0)
        window = ids[x0:x + reach, y0:y + reach]
        xs, ys = np.nonzero(window)
        near = np.abs(xs + x0 - x) + np.abs(ys + y0 - y) < reach
        found = [self._world._objects[i] for i in np.sort(window[xs[near], ys[near]])]
        return [other for other in found if other is not self.player]

    def _reward_now(self) -> float:
        """Health gained or lost, a tenth a point, and 1 when an achievement is unlocked."""
        reward = (self.player.health - self._last_health) / 10
        self._last_health = self.player.health
        unlocked = {name for name, count in self.player.achievements.items() if count > 0}
        self.new = unlocked - self._unlocked
        reward += 1.0 if self.new else 0.0
        self._unlocked |= unlocked
        return reward
