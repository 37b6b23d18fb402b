"""The same moment of a real environment under different commands: what truly happens. Needs no torch."""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from wakedream.data.actions import Actions, ActionSpec
from wakedream.environments.pixels import AnySize
from wakedream.environments.registry import environment, make_policy
from wakedream.errors import ConfigError, DataError

# MSE of pixels in [0, 1] up to which two outcomes count as one. In Crafter, by the player's true position: of 270
# blocked moves none, of 766 made 99.2 % lie above it by day and night (a blocked move still turns the player round).
SAME = 1e-3
PER_EPISODE = 10  # contexts, so that they come from many worlds; making one takes Crafter a quarter of a second
APART = (1, 3)  # frames from one context to the next, in contexts
LONGEST = 1000  # frames of an episode
DOMAIN = 0xC0117  # sets these seeds apart from those of recordings
SOON = 4  # frames after its first context in which a moment is sought, since episodes may be short
MOST = 6  # choices of an environment that is not built in
ATTEMPTS = 20  # episodes for each that would do, before giving up


@dataclass(frozen=True)
class Branches:
    """n contexts, each followed by what every command, held, led to. Commands stand in the order of `commands`.

    contexts    uint8 (n t h w c), the frames before
    actions     by component, (n t ...): `actions[:, i]` led into frame i
    has_action  (n t): False for an episode's first frame
    outcomes    uint8 (n k hold h w c)
    groups      int (n k): commands with the same number had one outcome; the number is that of the first of them
    held        by component, (k ...): each command as the model's action
    origins     (seed, actions since the reset): how to get to the end of each context again
    still       whether the first command does nothing
    """

    environment: str
    commands: tuple[str, ...]
    contexts: UInt8[np.ndarray, "n t h w c"]
    actions: Actions
    has_action: Bool[np.ndarray, "n t"]
    outcomes: UInt8[np.ndarray, "n k hold h w c"]
    groups: np.ndarray
    held: Actions
    origins: tuple[tuple[int, tuple[int, ...]], ...]
    still: bool = True

    @property
    def unblocked(self) -> Bool[np.ndarray, "n k"]:
        """Whether the command's outcome differs from that of doing nothing, the first command; where none does nothing,
        whether it matters at all what is done."""
        differs = self.groups != self.groups[:, :1]
        return differs if self.still else np.broadcast_to(differs.any(1, keepdims=True), differs.shape)


def branches(
    env_name: str,
    count: int,
    context: int = 16,
    commands: dict[str, int] | None = None,
    hold: int | None = None,
    seed: int = 0,
    *,
    size: AnySize = None,
    same: float | None = None,
    avoid: Collection[int] = (),
) -> Branches:
    """Play the scripted policy in worlds of their own, stop now and then, and try every command from there.

    count     contexts, up to 10 from one episode, at random moments
    context   frames in each
    commands  name -> the environment's action; the first does nothing, if any does. Default: those of the registry,
              noop and moves, or all choices that there are
    hold      frames for which a command is held. Default: the registry's, for Crafter 1, for CoinRun 8, for others 4
    size      of the frames in pixels, height and width, as the tokenizer takes them
    same      MSE, pixels in [0, 1], up to which two outcomes count as one (joined in chains). Default: SAME, or equal
    avoid     seeds of worlds not to be played, as `recorded_seeds` finds them in a data set. Recordings draw their
              worlds from 2^31, differently; without `avoid` one of them is met with a chance of
              episodes here x episodes there / 2^31

    Moments from which every command is blocked (asleep, walled in) or an episode ends are passed over. Environments
    beside the built-in ones are asked for their actions; two outcomes of theirs count as one if they are equal.
    ConfigError where there is no choice among actions; DataError when an environment does not repeat or such moments
    are too rare.
    """
    known = environment(env_name)
    hold = hold or known.hold
    commands = commands or dict(known.commands) or choices(env_name)
    same = (SAME if known.commands else 0.0) if same is None else same
    if min(count, context, hold) < 1 or len(commands) < 2:
        raise ConfigError(f"branches: count {count}, context {context}, hold {hold}, {len(commands)} commands: "
                          "expected at least 1, 1, 1 and 2")
    found: list[_Moment] = []
    plan = _Plan(env_name, context, tuple(commands.values()), hold, same)
    for moments in _episodes(plan, size, seed, avoid, count):
        found += moments
        if len(found) >= count:
            break
    else:
        raise DataError(f"{env_name}: only {len(found)} of {count} moments found in which a command of "
                        f"{', '.join(commands)} does something: shorter --context or --hold, or a smaller threshold")
    found = found[:count]
    spec = found[0].spec
    held = [spec.flatten(action) for action in commands.values()]
    return Branches(
        env_name, tuple(commands), np.stack([m.frames for m in found]),
        {c.name: np.stack([m.actions[c.name] for m in found]) for c in spec.components},
        np.stack([m.has_action for m in found]), np.stack([m.outcomes for m in found]),
        np.stack([m.groups for m in found]),
        {c.name: np.stack([action[c.name] for action in held]) for c in spec.components},
        tuple(m.origin for m in found), bool(known.commands) or next(iter(commands)) == "noop")  # fmt: skip


def choices(env_name: str) -> dict[str, int]:
    """The actions of an environment that has a choice, by their meaning or number; the first of them if there are many.
    ConfigError for others."""
    env = environment(env_name).make(None)
    try:
        space = env.action_space
        if not hasattr(space, "start") or space.n < 2:
            raise ConfigError(f"{env_name} has the actions {space}: only one of several choices can be held and "
                              "compared")
        meanings: list[Any] = getattr(env.unwrapped, "get_action_meanings", list)()
        names = [str(name).lower() for name in meanings] if len(meanings) == space.n else map(str, range(int(space.n)))
        return {name: int(space.start) + i for i, name in enumerate(names) if i < MOST}
    finally:
        env.close()


def recorded_seeds(infos: Collection[dict[str, Any]]) -> frozenset[int]:
    """Of the worlds in a data set: `recorded_seeds([episode.info for episode in store.episodes])`."""
    return frozenset(int(info["seed"]) for info in infos if "seed" in info)


@dataclass(frozen=True)
class _Plan:
    env_name: str
    context: int
    commands: tuple[int, ...]
    hold: int
    same: float


@dataclass(frozen=True)
class _Moment:
    spec: ActionSpec
    frames: np.ndarray
    actions: Actions
    has_action: np.ndarray
    outcomes: np.ndarray
    groups: np.ndarray
    origin: tuple[int, tuple[int, ...]]


def _episodes(plan: _Plan, size: AnySize, seed: int, avoid: Collection[int], count: int) -> Iterator[list[_Moment]]:
    """The moments of one episode after another."""
    env, twin = (environment(plan.env_name).make(size) for _ in range(2))
    try:
        per_episode = 1 if hasattr(twin, "way") else PER_EPISODE  # at least
        for index in range(ATTEMPTS * (1 + count // per_episode)):
            seeds = np.random.SeedSequence([seed, index, DOMAIN])
            world = int(seeds.generate_state(1)[0] >> 1)
            if world not in avoid:
                rng = np.random.default_rng(seeds.spawn(1)[0])
                yield list(itertools.islice(_moments(plan, env, twin, world, rng), PER_EPISODE))
    finally:
        env.close()
        twin.close()


def _moments(plan: _Plan, env: Any, twin: Any, world: int, rng: np.random.Generator) -> Iterator[_Moment]:
    """Of one episode, those in which a command does something."""
    spec = ActionSpec.from_space(env.action_space)
    frame, _ = env.reset(seed=world)
    if hasattr(twin, "way"):
        twin.reset(seed=world)  # parts that cannot be copied must be there
    policy = make_policy(None, plan.env_name, env, rng)
    frames, taken = [np.array(frame)], list[int]()
    after = plan.context + int(rng.integers(SOON if hasattr(twin, "way") else plan.context))
    while len(frames) < LONGEST:
        moment, action = None, int(policy(frame))
        if len(frames) == after:
            after += int(rng.integers(APART[0] * plan.context, APART[1] * plan.context + 1))
            outcomes = _outcomes(env, twin, plan)
            if outcomes is not None and (groups := _groups(outcomes, plan.same)).any():
                actions, has_action = _actions(spec, taken, plan.context)
                moment = _Moment(spec, np.stack(frames[-plan.context :]), actions, has_action, outcomes, groups,
                                 (world, tuple(taken)))  # fmt: skip
                twin.become(env)
                ahead = np.array(twin.step(action)[0])
        frame, _, terminated, truncated, _ = env.step(action)
        if moment and np.array_equal(ahead, frame):
            yield moment
        elif moment and getattr(twin, "way", None) == "copy":
            twin.way = "replay"  # some of its state lies where nothing can be copied
        elif moment:
            raise DataError(f"{plan.env_name} does not repeat: the same seed and actions led to another frame")
        if terminated or truncated:
            return
        frames.append(np.array(frame))
        taken.append(action)


def _actions(spec: ActionSpec, taken: list[int], context: int) -> tuple[Actions, np.ndarray]:
    """What led into each of the last `context` frames; into an episode's first frame, nothing."""
    led = [spec.flatten(action) for action in taken[-context:]]
    has_action = np.arange(context) >= context - len(led)
    if len(led) < context:
        led.insert(0, {name: zeros[0] for name, zeros in spec.placeholder(1).items()})
    return {c.name: np.stack([action[c.name] for action in led]) for c in spec.components}, has_action


def _outcomes(env: Any, twin: Any, plan: _Plan) -> np.ndarray | None:
    """uint8 (k hold h w c); None where the episode ends under one of them."""
    found = []
    for action in plan.commands:
        twin.become(env)
        for _ in range(plan.hold):
            frame, _, terminated, truncated, _ = twin.step(action)
            if terminated or truncated:
                return None
            found.append(np.array(frame))
    return np.stack(found).reshape(len(plan.commands), plan.hold, *found[0].shape)


def _groups(outcomes: np.ndarray, same: float) -> np.ndarray:
    """(k,): the first command to whose outcome each one's is the same, directly or by way of others."""
    flat = outcomes.reshape(len(outcomes), -1).astype(np.float32) / 255
    alike = np.square(flat[:, None] - flat[None]).mean(-1) <= same
    for _ in range(len(alike)):  # what is joined to one is joined to all
        alike = alike @ alike
    return alike.argmax(1)
