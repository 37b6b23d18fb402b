"""Processes that encode together wait for the slowest, however long it takes."""

import patient_ranks
from stages.conftest import write_played, write_tokenizer
from test_ranks import start

from wakedream.data.store import Store
from wakedream.dynamics.latents import LatentStore


def test_encoding_outlasts_the_limit_of_the_run_s_own_group(tmp_path) -> None:
    write_played(tmp_path / "data")
    write_tokenizer(tmp_path / "tokenizer")
    codes, said = start(tmp_path, script=patient_ranks.__file__)
    assert codes == [0, 0], "\n".join(said)
    marks = {(tmp_path / f"latents.{rank}").read_text() for rank in range(2)}
    (folder,) = (tmp_path / "tokenizer" / "latents").iterdir()
    latents = LatentStore.open(folder)
    assert marks == {latents.tokenizer}
    latents.check(latents.tokenizer, Store.open(tmp_path / "data"))
