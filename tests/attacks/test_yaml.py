"""Attacks with YAML: in a config file and in the value of --set."""

import pytest

from tests.support import attacked

pytestmark = pytest.mark.attacks


@pytest.fixture
def read(attack, tmp_path):
    """Returns a function that reads a config file, which must be refused in words."""

    def read(content, *words):
        path = tmp_path / "settings.yaml"
        data = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(data)
        outcome = attack("run", "--print-config", "--config", path)
        attacked.check_refused(outcome, *words)
        return outcome

    return read


def _nest(levels: int) -> str:
    """Returns maps in maps, each on a line of its own."""
    return "".join(f"{' ' * i}a{i}:\n" for i in range(levels))


def _double(levels: int, shape: str) -> str:
    """Returns aliases of aliases: 2 ** levels values."""
    lines = [f"a0: &a0 {shape.replace('*', 'x')}"]
    lines += [
        f"a{i}: &a{i} {shape.replace('*', f'*a{i - 1}')}" for i in range(1, levels)
    ]
    return "gate:\n" + "".join(f"  {line}\n" for line in lines)


DUPLICATES = {
    "a second section": (
        "gate: {elbo_floor: -50}\ntrain: {seed: 1}\ngate: {tolerance: 1}\n",
        "got gate at line 1, column 1 and again at line 3, column 1",
    ),
    "a second field": (
        "gate:\n  elbo_floor: -50\n  elbo_floor: -5000\n",
        "got elbo_floor at line 2, column 3 and again at line 3, column 3",
    ),
    "a second field in one line": (
        "gate: {elbo_floor: -50, elbo_floor: -5000}\n",
        "got elbo_floor at line 1, column 8 and again at line 1, column 25",
    ),
    "in quotes": ("gate: {seed: 1}\n'gate': {seed: 2}\n", "each key once"),
    "with an escape": ('gate: {seed: 1}\n"g\\x61te": {seed: 2}\n', "each key once"),
    "as a complex key": ("gate: {seed: 1}\n? gate\n: {seed: 2}\n", "each key once"),
    "by a merge": ("gate: {<<: {elbo_floor: -5000}, seed: 1}\n", "no merge key"),
    "by a merged list": ("gate: {<<: [{seed: 1}, {seed: 2}]}\n", "no merge key"),
    "by a quoted merge key": ("gate: {'<<': {seed: 1}}\n", "gate.<<"),
    "in a second document": (
        "gate: {elbo_floor: -50}\n---\ngate: {elbo_floor: -5000}\n",
        "one document",
    ),
    "after the document's end": ("gate: {seed: 1}\n...\ngate: {seed: 2}\n", "line 3"),
    "of a volume": (
        "kubeflow:\n  volumes: {/data: a, /data: b}\n",
        "each key once",
    ),
    "that differ in a composed letter": (
        "e\u0301: {}\n\u00e9: {}\n",
        "unknown section",
    ),
    "that differ in an invisible letter": (
        "gate: {seed: 1}\ngate\u200b: {}\n",
        "printable",
    ),
}


@pytest.mark.line("YAML key twice")
@pytest.mark.parametrize("name", DUPLICATES)
def test_a_key_that_is_there_twice(read, name):
    read(*DUPLICATES[name])


ALIASES = {
    "lists": _double(60, "[*, *]"),
    "maps": _double(60, "{x: *, y: *}"),
    "over known keys": "gate: &a {seed: 1}\ntrain: *a\n",
    "of itself": "gate: &a [*a]\n",
    "of itself as a key": "&a gate: *a\n",
    "of itself in a map": "gate: &a {seed: *a}\n",
    "in a merge": "a: &a {seed: 1}\ngate: {<<: *a}\n",
    "without an anchor": "gate: *nothing\n",
    "an anchor alone": "gate: &a {seed: 1}\n",
    "many anchors": "gate:\n" + "".join(f"  a{i}: &a{i} 1\n" for i in range(5_000)),
    "one alias many times": "a: &a [x]\nb: [" + "*a, " * 20_000 + "]\n",
}


@pytest.mark.line("YAML aliases")
@pytest.mark.parametrize("name", ALIASES)
def test_aliases_and_anchors(read, name):
    outcome = read(ALIASES[name], "must have no a")
    assert outcome.cpu < 10


CRASHES = {
    "deep maps": (_nest(300), "levels deep"),
    "deep lists": ("a: " + "[" * 50_000 + "]" * 49_000, "levels deep"),
    "deep lists without an end": ("a: " + "[" * 90_000, "levels deep"),
    "deep maps in braces": ("{a: " * 20_000, "levels deep"),
    "deep dashes": ("- " * 40_000, "levels deep"),
    "deep question marks": ("? " * 40_000, ""),
    "5,000 digits": (f"gate: {{seed: {'9' * 5_000}}}\n", "at most 18 digits"),
    "90,000 digits": (f"gate: {{seed: {'9' * 90_000}}}\n", "at most 18 digits"),
    "5,000 digits in base 16": (f"gate: {{seed: 0x{'f' * 5_000}}}\n", "18 digits"),
    "5,000 digits in base 8": (f"gate: {{seed: 0o{'7' * 5_000}}}\n", "18 digits"),
    "more than 64 bits": ("gate: {seed: 0xffffffffffffffffff}\n", ""),
    "5,000 digits and a point": (f"gate: {{tolerance: {'9' * 5_000}.}}\n", "finite"),
    "a large exponent": ("gate: {tolerance: 1e999999999999}\n", "finite"),
    "a date that is none": ("gate: {seed: 2024-99-99}\n", "gate.seed"),
    "a date": ("gate: {seed: 2024-01-01}\n", "gate.seed"),
    "a time": ("gate: {seed: 2024-01-01T25:61:61Z}\n", "gate.seed"),
    "sixties": ("gate: {seed: 1:30}\n", "gate.seed"),
    "base 2": ("gate: {seed: 0b11}\n", "gate.seed"),
    "digits in groups": ("gate: {seed: 1_000}\n", "without _"),
    "digits of another script": ("gate: {seed: ١٢}\n", "gate.seed"),
    "a boolean in words": ("data: {accept_drift: on}\n", "true or false"),
    "a tag that makes an object": (
        "gate: !!python/object/apply:os.system [touch here/escaped]\n",
        "no tag",
    ),
    "a tag for binary": ("push: {model_name: !!binary AAAA}\n", "no tag"),
    "a tag for a set": ("gate: !!set {seed}\n", "no tag"),
    "a tag of its own": ("%TAG ! tag:x,2000:\n---\ngate: !y {}\n", "no directive"),
    "a tag without an end": ("gate: !<tag:x {}\n", "must be YAML"),
    "another version": ("%YAML 9999999999999999999.1\n---\ngate: {}\n", ""),
    "a version of 5,000 digits": (f"%YAML 1.{'2' * 5_000}\n---\ngate: {{}}\n", ""),
    "a tab": ("gate:\n\tseed: 1\n", "no tab"),
    "a null character": ("gate: {seed: 1}\0\n", "does not allow"),
    "a null character as an escape": ('push: {model_name: "a\\0b"}\n', "no \\0"),
    "half a character": ('push: {model_name: "a\\ud800"}\n', "half of a character"),
    "a character too far": ('push: {model_name: "\\UFFFFFFFF"}\n', "too large"),
    "a bell": ("gate: {seed: 1} \x07\n", "does not allow"),
    "a terminal's escape": ('"gate\\e[2J": {seed: 1}\n', "printable"),
    "a byte order mark": (b"\xef\xbb\xbfgate: {seed: 1}\n", "byte order mark"),
    "UTF-16": ("gate: {seed: 1}\n".encode("utf-16"), "UTF-8"),
    "UTF-32": ("gate: {seed: 1}\n".encode("utf-32"), ""),
    "Latin-1": ("push: {model_name: m\xf6del}\n".encode("latin-1"), "UTF-8"),
    "overlong UTF-8": (b"push: {model_name: \xc0\xae\xc0\xae}\n", "UTF-8"),
    "random bytes": (bytes(range(256)), ""),
    "100,001 bytes": ("#" * 100_001, "at most 100,000 bytes"),
    "an empty file": ("", "got nothing"),
    "a single value": ("gate\n", "got a single value"),
    "a list": ("- gate\n", "got a list"),
    "a section of null": ("gate:\n", "no fields in gate"),
    "a key of null": ("~: {seed: 1}\n", "texts as keys"),
    "a key of a number": ("gate: {1: 2}\n", "texts as keys"),
    "a key of a map": ("? {a: b}\n: c\n", "texts as keys"),
    "a quote without an end": ('gate: {seed: "1' + " " * 90_000, "must be YAML"),
    "a long comment": ("gate: {seed: x} #" + "x" * 90_000, "gate.seed"),
    "many empty lines": ("gate: 'a" + "\n" * 90_000 + "'", ""),
    "many colons": ("a: " * 30_000, ""),
    "many commas": ("gate: [" + "," * 90_000 + "]", "must be YAML"),
    "many short keys": ("{" + "".join(f"{i:x}x: 1, " for i in range(9_000)) + "}", ""),
}


@pytest.mark.line("YAML that crashes or hangs a reader")
@pytest.mark.parametrize("name", CRASHES)
def test_what_crashes_a_reader(read, name):
    outcome = read(*CRASHES[name])
    assert outcome.cpu < 10


VALUES = {
    "gate.seed=[[": "must be YAML",
    "gate.seed=" + "[" * 90_000: "levels deep",
    "gate.seed=" + "9" * 5_000: "18 digits",
    "gate.seed=*a": "no alias",
    "gate.seed=&a 1": "no anchor",
    "gate.seed=!!int 1": "no tag",
    "gate.seed=2024-99-99": "gate.seed must be",
    "gate.seed={a: 1, a: 2}": "each key once",
    "gate.seed=1\n---\n2": "one document",
    "gate.seed=1\t": "",
    "gate.seed=": "gate.seed must be",
    "gate.seed=0123x": "gate.seed must be",
    "gate.seed": "section.field=value",
    "gate=1": "section.field=value",
    "=1": "section.field=value",
    "gate..seed=1": "unknown setting",
    "gate.__class__=1": "unknown setting",
    "gate.seed\x1b[2J=1": "",
}


@pytest.mark.line("YAML that crashes or hangs a reader")
@pytest.mark.parametrize("setting", VALUES, ids=lambda text: ascii(text[:30]))
def test_a_single_setting(refuse, setting):
    refuse(["run", "--print-config", "--set", setting], VALUES[setting])


DEVICES = {"a device": "/dev/zero", "a folder": "/", "the process": "/proc/self/mem"}


@pytest.mark.line("YAML that crashes or hangs a reader")
@pytest.mark.parametrize("name", DEVICES)
def test_a_config_file_that_is_no_file(refuse, name):
    refuse(["run", "--print-config", "--config", DEVICES[name]], DEVICES[name])
