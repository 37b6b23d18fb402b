"""ViZDoom's `basic`: step left or right along a wall until the monster at the other is ahead, and shoot it."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import vizdoom

from wakedream.environments.bursts import Bursts, drawn
from wakedream.environments.pixels import Size, both, to_rgb

STILL, LEFT, RIGHT, SHOOT = range(4)
BUTTONS = ([0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1])
TICS = 4  # of the game, 35 a second, for a step
LEVELS = ((0.0, 0.1), (0.7, 0.3), (0.9, 0.6))  # share of noise, how often an episode has it
AHEAD = 24  # units to a side within which a shot hits


class DoomEnv(gymnasium.Env):
    """Frames are uint8 (*size 3), height and width. A step costs 4 and a shot 5 more; the shot that hits ends the
    episode and brings 101 to 104. After 75 steps it is truncated.

    info holds `events`: at this frame the monster was hit. The game shows nothing once it is: the last picture is of
    the moment before.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 9}  # noqa: RUF012 (Gymnasium's own form)
    render_mode = "rgb_array"

    def __init__(self, size: int | Size = 64):
        self.size = both(size) or (64, 64)
        self.game = vizdoom.DoomGame()
        self.game.load_config(str(Path(vizdoom.scenarios_path) / "basic.cfg"))
        self.game.set_window_visible(False)
        self.game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
        self.game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        self.game.set_objects_info_enabled(True)
        self.game.add_game_args("+movebob 0")  # how the weapon sways goes on from one episode into the next
        self.game.init()
        self.observation_space = gymnasium.spaces.Box(0, 255, (*self.size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(BUTTONS))
        self.frame = np.zeros((*self.size, 3), np.uint8)
        self.aside = 0.0  # units from the line of fire to the monster, to the left
        self.began, self.taken = 0, list[int]()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._begin(int(self.np_random.integers(2**31 - 1)) if seed is None else seed)
        return self._look(), {"events": {"hit": False}}

    def step(self, action: int | np.integer):
        self.taken.append(int(action))
        reward = self._act(int(action))
        over = self.game.is_episode_finished()
        late = over and self.game.is_episode_timeout_reached()
        return self._look(), reward, over and not late, late, {"events": {"hit": over and not late}}

    def render(self) -> np.ndarray:
        return self.frame

    def close(self) -> None:
        self.game.close()

    def become(self, other: "DoomEnv") -> None:
        """Go on from where `other`, of the same size, is now, by playing what it played."""
        self._begin(other.began)
        for action in other.taken:
            self._act(action)
        self.taken = list(other.taken)
        self._look()

    def _begin(self, seed: int) -> None:
        self.began, self.taken = seed, []
        self.game.set_seed(seed)
        self.game.new_episode()
        self._see()

    def _act(self, action: int) -> float:
        reward = 0.0
        for _ in range(TICS):
            if not self.game.is_episode_finished():
                reward += self.game.make_action(BUTTONS[action], 1)
                self._see()
        return reward

    def _see(self) -> None:
        state = self.game.get_state()
        if state is not None:
            self.screen = state.screen_buffer
            at = {thing.name: thing.position_y for thing in state.objects}
            self.aside = at.get("Cacodemon", at["DoomPlayer"]) - at["DoomPlayer"]

    def _look(self) -> np.ndarray:
        self.frame = to_rgb(self.screen, self.size).copy()
        return self.frame


class DoomPlayer:
    """Steps towards the monster and shoots when it is ahead, except for bursts of random actions. `epsilon`, drawn per
    episode, is their share."""

    def __init__(self, env: DoomEnv, rng: np.random.Generator, epsilon: float | None = None):
        self.epsilon = drawn(LEVELS, rng) if epsilon is None else epsilon
        self.info: dict[str, Any] = {"policy": "scripted", "epsilon": self.epsilon}
        self.env, self.rng, self.bursts = env, rng, Bursts(self.epsilon, rng)

    def __call__(self, frame: np.ndarray) -> int:
        self.bursts.begins()
        if self.bursts.lasts():
            return int(self.rng.integers(len(BUTTONS)))
        if abs(self.env.aside) < AHEAD:
            return SHOOT
        return LEFT if self.env.aside > 0 else RIGHT
