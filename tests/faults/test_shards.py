"""TFRecord shards that were damaged after a step wrote them."""

import pathlib

import pytest

pytestmark = pytest.mark.faults

DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "bit-flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
}
FOUND = {
    "truncated": r"has [\d,]+ bytes, not [\d,]+",
    "bit-flipped": r"has changed since its step ended",
    "missing": r"is missing",
    "empty": r"has 0 bytes, not [\d,]+",
}


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def shard(place) -> pathlib.Path:
    (path,) = (place.newest("Ingest", "examples") / "Split-train").glob("*.gz")
    return path


def test_in_the_cache(place, outcome):
    before = place.served()
    for kind, damage in DAMAGE.items():
        path = shard(place)
        damage(path)
        run = place.start()
        run.wait_for(
            rf"^Ingest +its examples can't be used: {path} {FOUND[kind]}; it runs again"
        )
        run.wait_for(r"^Ingest +\d+\.\d s ")
        if kind != "empty":
            run.kill()  # the step has written the shard again, for the next damage
    assert run.end() == 0, run.printed
    assert place.served() == before  # the model is the same, so it is not pushed again
    assert "Ingest           from the cache" in place.run()
    outcome(
        f"a TFRecord shard in the cache: {', '.join(DAMAGE)}",
        "`its examples can't be used: FILE ...; it runs again`, exit code 0",
        "finds it whole: the step was run again, and what depends on it",
    )


def test_in_the_prepared_data(place, outcome):
    (path,) = place.data.rglob("bars-train.tfrecord-*")
    damaged = flipped(path.read_bytes())
    path.write_bytes(damaged)
    printed = place.run(code=2)
    assert f"{path} has the SHA-256 " in printed
    assert "or prepare the data set again with a source other than auto" in printed
    assert path.read_bytes() == damaged

    printed = place.run(options=("--source", str(place.source)))
    assert "Ingest           from the cache" in printed
    place.run()
    outcome(
        "a shard of the prepared data set damaged",
        "`FILE has the SHA-256 ..., expected ...`; from `auto` it is prepared anew at "
        "once, from a folder at `--source DIR`, else exit code 2",
        "finds it whole; nothing is trained again",
    )
