"""An agent acts on what it has seen since its episode began, each row by itself."""

import numpy as np
import pytest
import torch
from agent.conftest import known  # noqa: F401
from agent.test_tasks import several

import wakedream as wd
from wakedream.agent.agent import TOKENS, AgentModel
from wakedream.data.actions import ActionComponent, ActionSpec, action_of
from wakedream.data.store import Store
from wakedream.data.trajectory import Trajectory
from wakedream.dynamics.engine import DreamEngine
from wakedream.environments.config import RecordConfig
from wakedream.errors import CheckpointError, ConfigError
from wakedream.evaluation.config import AGENT, DYNAMICS
from wakedream.evaluation.kinds import kind_of
from wakedream.world.policy import Agent, EnvironmentPlayer
from wakedream.world.recording import record


@pytest.fixture(scope="module")
def agent(known):  # noqa: F811
    return Agent(known[1], AgentModel.from_pretrained(known[3]))


def frames(count, rows=2, seed=0):
    return torch.rand(count, rows, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_it_reads_what_the_engine_reads_of_the_same_frames_and_its_own_actions(agent):
    """As one context: latents of the tokenizer's stream, the actions that it took, the same noise."""
    video, player = frames(5), agent.player(2, seed=3)
    taken = [player.act(frame)["move"] for frame in video]
    latents = torch.stack([latent for stream in [agent.tokenizer.stream(2)] for latent in map(stream.encode, video)], 1)
    moves = torch.stack([torch.zeros_like(taken[0]), *taken[:-1]], dim=1)
    known_moves = torch.arange(5)[None].expand(2, 5) > 0
    model = agent.model
    engine = DreamEngine(model.dynamics, 2, tokens={TOKENS: model.tokens_of(torch.tensor(0)).detach()}, keep=model.keep)
    engine.reset(seeds=player._seeds)
    out = engine.observe(latents.detach(), Trajectory.of_actions({"move": moves}, known_moves))
    likely = model.actions_at(model.pooled(out)).log_probs["move"]
    again = agent.player(2, seed=3)
    seen = []
    actions_at = model.actions_at
    try:
        model.actions_at = lambda *given: seen.append(actions_at(*given)) or seen[-1]
        for frame in video:
            again.act(frame)
    finally:
        del model.actions_at
    torch.testing.assert_close(torch.stack([one.log_probs["move"] for one in seen], 1), likely, atol=1e-4, rtol=0)


def test_a_row_that_begins_anew_forgets_and_the_others_do_not(agent):
    player, fresh = agent.player(2, seed=0), agent.player(2, seed=0)
    for frame in frames(4):
        player.act(frame)
    player.reset(torch.tensor([True, False]))
    fresh.reset()
    assert player.fresh.tolist() == [True, False] and player.engine.frames.tolist() == [0, 4]
    shown = frames(1, seed=5)[0]
    nothing = Trajectory.of_actions({"move": torch.zeros(2, 1, dtype=torch.int64)}, torch.zeros(2, 1, dtype=torch.bool))
    a, b = (one.model.pooled(one.engine.observe(one.stream.encode(shown).unsqueeze(1), nothing))[:, 0]
            for one in (player, fresh))
    torch.testing.assert_close(a[0], b[0], atol=1e-4, rtol=0)
    assert (a[1] - b[1]).abs().max() > 1e-3


def test_it_acts_in_an_environment_and_is_saved_and_loaded(agent, tmp_path):
    import gymnasium

    player = EnvironmentPlayer(agent, 3, gymnasium.spaces.Discrete(4, start=10), seed=1)
    shown = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    actions = player.act(shown)
    assert all(isinstance(action, int) and 10 <= action < 14 for action in actions)
    agent.save_pretrained(tmp_path / "kept")
    assert kind_of(tmp_path / "kept") == AGENT
    again = wd.Agent.from_pretrained(tmp_path / "kept")
    assert EnvironmentPlayer(again, 3, gymnasium.spaces.Discrete(4, start=10), seed=1).act(shown) == actions
    with pytest.raises(ValueError, match=r"expected frames \(3, 3, 16, 16\)"):
        player.act(shown[:2])
    with pytest.raises(ConfigError, match="the environment's actions are .* the agent knows 'move', 4 choices from 0"):
        EnvironmentPlayer(agent, 3, gymnasium.spaces.Discrete(5))
    likeliest = agent.act(torch.from_numpy(shown.transpose(0, 3, 1, 2).copy()), greedy=True)
    assert likeliest["move"].shape == (3,)


def test_its_world_is_a_world_as_any_other(agent, tmp_path):
    """To be dreamed in, kept, and evaluated as a dynamics model: how good its dreams are after cloning."""
    agent.world.save_pretrained(tmp_path / "world")
    assert kind_of(tmp_path / "world") == DYNAMICS
    again = wd.World.from_pretrained(tmp_path / "world")
    shown, moves = frames(2, rows=3).transpose(0, 1), torch.tensor([[0, 1], [0, 2], [0, 3]])
    dreams = [world.dream(shown, {"move": moves}, seed=0).step({"move": [1, 2, 3]}) for world in (agent.world, again)]
    assert torch.equal(*dreams)
    assert again.fingerprint() == agent.world.fingerprint()


def test_actions_of_any_space_come_back():
    spaces = pytest.importorskip("gymnasium").spaces
    whole = spaces.Dict({
        "arm": spaces.Box(-1, 1, (2, 2), np.float32), "keys": spaces.MultiBinary(3),
        "pair": spaces.Tuple((spaces.Discrete(3, start=1), spaces.MultiDiscrete([2, 5])))})
    whole.seed(0)
    spec = ActionSpec.from_space(whole)
    for _ in range(5):
        action = whole.sample()
        back = action_of(whole, spec.flatten(action))
        assert whole.contains(back)
        assert all(np.array_equal(one, other) for one, other in
                   zip(spec.flatten(action).values(), spec.flatten(back).values(), strict=True))
    assert spec.components[0] == ActionComponent("arm", "continuous", 4, (-1.0,) * 4, (1.0,) * 4)


def test_each_row_acts_on_its_task_from_the_next_frame_on(known):  # noqa: F811
    """A row told its task is an agent told it alone; what other rows are told changes nothing."""
    agent, video = Agent(known[1], several(known)), frames(6)

    def played(rows, prompts):
        player, seen = agent.player(len(rows), seed=3), []
        pooled = agent.model.pooled
        try:
            agent.model.pooled = lambda out: seen.append(pooled(out)) or seen[-1]
            for t, frame in enumerate(video):
                if t in prompts:
                    player.prompt(prompts[t])
                player.engine.reset(torch.arange(len(rows)), torch.tensor(rows) + 7) if t == 0 else None
                player.act(frame[rows], greedy=True)
        finally:
            del agent.model.pooled
        return torch.stack(seen, 1)

    untold, both = played([0, 1], {}), played([0, 1], {3: ["up", "over"]})
    assert torch.equal(untold, played([0, 1], {0: "up"}))  # the first task
    assert torch.equal(untold[0], both[0]) and torch.equal(untold[1, :3], both[1, :3])
    assert (untold[1, 3] - both[1, 3]).abs().max() > 1e-3
    torch.testing.assert_close(played([1], {3: "over"})[0], both[1], atol=1e-4, rtol=0)
    assert agent.tasks == ("up", "over", "reward") and agent.act(video[0], task=["over", "up"])["move"].shape == (2,)
    with pytest.raises(ConfigError, match="unknown task 'ovr'; did you mean 'over'"):
        agent.act(video[1], task="ovr")


@pytest.fixture(scope="module")
def saved(agent, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "agent"
    agent.save_pretrained(folder)
    return folder


def recording(out, policy, **changes):
    return RecordConfig(**{"env": "agent.known_world:Known-v0", "out": str(out), "frames": 120, "policy": str(policy),
                           **changes})


def test_it_plays_its_share_of_a_recording_the_same_in_any_number_of_processes(saved, tmp_path):
    mix = f"{saved}:1,random:1"
    record(recording(tmp_path / "one", mix))
    record(recording(tmp_path / "two", mix, processes=2))
    one, two = Store.open(tmp_path / "one"), Store.open(tmp_path / "two")
    assert one.fingerprint == two.fingerprint
    assert {info.info["policy"] for info in one.episodes} == {str(saved), "random"}
    model = Agent.from_pretrained(saved).model
    assert {info.info["fingerprint"] for info in one.episodes if info.info["policy"] == str(saved)} == {
        model.fingerprint()}


def test_an_agent_that_does_not_fit_a_recording_is_told_and_nothing_is_written(saved, tmp_path):
    with pytest.raises(ConfigError, match="choose a --size"):
        record(recording(tmp_path / "data", saved, size="32"))
    with pytest.raises(CheckpointError, match="does not exist"):
        record(recording(tmp_path / "data", saved.parent / "other"))
    with pytest.raises(ConfigError, match="the agent knows"):
        record(recording(tmp_path / "data", saved, env="CartPole-v1", size="16"))
    with pytest.raises(ConfigError, match="policy for"):
        record(recording(tmp_path / "data", "sticki"))
    assert not (tmp_path / "data").exists()
