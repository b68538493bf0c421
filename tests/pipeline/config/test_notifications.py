"""The settings of notifications and metrics: valid values, and hidden secrets."""

import dataclasses

import pytest

from pipeline.config import notifications
from pipeline.config.loading import ConfigError, resolve
from pipeline.config.notifications import MetricsConfig, NotifyConfig

TOKEN = "t0ken-that-nobody-may-see"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "notify.webhook=http://example.org/hook",
            "notify.webhook must be an https:// URL (http:// to this machine alone), "
            "got http://example.org/...",
        ),
        ("notify.webhook=example.org", "notify.webhook must be an https:// URL (http"),
        ("notify.webhook='http://[::1'", "must be an https:// URL, got no URL"),
        (
            f"notify.webhook=https://a:{TOKEN}@example.org",
            "notify.webhook must have no user and password, got some for "
            "https://example.org/...: use notify.token",
        ),
        (
            f"notify.webhook=https://example.org/?key={TOKEN}",
            "notify.webhook must have no path and no query here, where it is kept with "
            "the run, got https://example.org/...: put the URL into a variable or a "
            "file (env:NAME, file:PATH)",
        ),
        (
            f"notify.webhook=https://example.org/services/{TOKEN}",
            "notify.webhook must have no path and no query here",
        ),
        (f"notify.tokenn={TOKEN}", "unknown setting notify.tokenn: did you mean no"),
        (f"notfy.token={TOKEN}", "unknown setting notfy.token: did you mean notify.t"),
        (
            f"notify.command=[{TOKEN}",
            "notify.command must be YAML: while parsing a flow sequence, at line 1, "
            "column ",
        ),
        (f"notify.command=*{TOKEN}", "notify.command must have no alias, got one at "),
        (f"notify.command=\a{TOKEN}", "must be YAML: it has characters that YAML"),
        (f"notify.token:{TOKEN}", "a setting must be section.field=value, such as gat"),
        (
            f"notify.token={TOKEN}",
            "notify.token must be env:NAME or file:PATH, got something else, which "
            "might be the token itself and is not shown",
        ),
        ("notify.token=123456", "notify.token must be env:NAME or file:PATH, got so"),
        ("notify.timeout=0", "notify.timeout must be above 0.0, got 0"),
        ("notify.events=[won]", "notify.events.0 must be 'pushed', 'unchanged', "),
        (
            f"notify.command=['', {TOKEN}]",
            "notify.command must begin with a program, got an empty word",
        ),
        (
            "metrics.textfile=/a/b.txt",
            "metrics.textfile must end in .prom, for node-exporter reads no other, got "
            "'/a/b.txt'",
        ),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError) as error:
        resolve("smoke", settings=[settings])
    assert message in str(error.value)
    assert TOKEN not in str(error.value)
    assert "123456" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org",
        "https://example.org/",
        "http://localhost:8080/hook",
        "http://127.0.0.2/hook",
        "http://[::1]:80/hook",
        "env:HOOK",
        "file:~/hook",
    ],
)
def test_urls_that_can_be(url):
    assert resolve("smoke", settings=[f"notify.webhook='{url}'"]).notify.webhook == url


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/hook",
        "http://127.evil.org/hook",
        "http://localhost.evil.org/hook",
        "ftp://example.org/hook",
        "ftp://localhost/hook",
        "https:///hook",
        "example.org/hook",
        "",
    ],
)
def test_a_url_that_secrets_must_not_be_sent_to_is_refused(url):
    problem = notifications.find_url_problem(url)
    assert problem is not None
    assert problem.startswith("webhook must be an https:// URL ")


@pytest.mark.parametrize("url", ["https://example.org:https", "https://[::1"])
def test_an_invalid_url_is_not_shown(url):
    problem = notifications.find_url_problem(url)
    assert problem == "webhook must be an https:// URL, got no URL"


def test_a_url_with_an_empty_user_is_refused_too():
    assert notifications.find_url_problem("https://@example.org") == (
        "webhook must have no user and password, got some for https://example.org/...: "
        "use notify.token"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/services/T0/B1?key=2#3", "https://example.org/..."),
        ("https://me:secret@example.org:8443/x", "https://example.org:8443/..."),
        ("http://127.0.0.1:80", "http://127.0.0.1:80/..."),
        ("example.org/services/T0", "no URL"),
        ("mailto:me@example.org", "no URL"),
        ("//example.org/services/T0", "no URL"),
    ],
)
def test_only_scheme_host_and_port_are_shown(url, shown):
    assert notifications.hide_secrets(url) == shown


@pytest.mark.parametrize("fragment", ["https://a.org/#secret", "https://a.org/?secret"])
def test_a_webhook_with_a_secret_behind_its_path_is_refused(fragment):
    with pytest.raises(ValueError, match="webhook must have no path and no query her"):
        NotifyConfig(webhook=fragment)


@pytest.mark.parametrize("query", ["?secret", "#secret"])
def test_this_machine_may_have_a_path_but_no_query(query):
    assert NotifyConfig(webhook="http://localhost/hook").webhook
    with pytest.raises(ValueError, match="webhook must have no path and no query her"):
        NotifyConfig(webhook=f"http://localhost/hook{query}")


@pytest.mark.parametrize("token", ["env:TOKEN", "file:/run/secrets/token", ""])
def test_a_token_is_named_by_where_it_is(token):
    assert NotifyConfig(token=token).token == token


@pytest.mark.parametrize("token", ["env:", "file:", "xenv:TOKEN", "environment:TOKEN"])
def test_a_token_that_names_no_place_is_refused(token):
    with pytest.raises(ValueError, match="token must be env:NAME or file:PATH"):
        NotifyConfig(token=token)


def test_only_configured_events_are_notified_and_unchanged_runs_never():
    """A nightly run that finds no change would otherwise notify every night."""
    default = NotifyConfig()
    assert default.events == ["pushed", "refused", "failed", "bad_data"]
    assert (default.webhook, default.token, default.command) == ("", "", [])
    assert default.template == ""
    assert default.timeout == 10.0
    assert default.events is not NotifyConfig().events
    with pytest.raises(dataclasses.FrozenInstanceError):
        default.token = "secret"


NO_TEMPLATE = (
    'notify.template must be a JSON object, such as {"content": "$text"}, got '
)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            '{"content": "$txet"}',
            "notify.template has the unknown placeholder $txet: use $text, $event, "
            "$model, $run_id, or $$ for a dollar sign: did you mean $text?",
        ),
        ('{"a": "${text_}"}', "notify.template has the unknown placeholder $text_: us"),
        ('{"a": "$TEXT"}', "notify.template has the unknown placeholder $TEXT: use $t"),
        ('{"a": ["$token"]}', "notify.template has the unknown placeholder $token: "),
        ('{"$schema": "a"}', "notify.template has the unknown placeholder $schema: us"),
        ('{"a": "5 $"}', "notify.template has the unknown placeholder $: use $text, "),
        ('{"a": "$$$5"}', "notify.template has the unknown placeholder $: use $text, "),
        (
            '{"a": $text}',
            f"{NO_TEMPLATE}no JSON: Expecting value at line 1, column 7",
        ),
        (
            '{"a": "b}',
            f"{NO_TEMPLATE}no JSON: Unterminated string starting at line 1, ",
        ),
        ("{'a': '$text'}", f"{NO_TEMPLATE}no JSON: Expecting property name enclosed "),
        ('{"a": "b"} {}', f"{NO_TEMPLATE}no JSON: Extra data at line 1, column 12"),
        ('{"a": "\\$text"}', f"{NO_TEMPLATE}no JSON: Invalid \\escape"),
        ("$text", f"{NO_TEMPLATE}no JSON: Expecting value at line 1, column 1"),
        (" ", f"{NO_TEMPLATE}no JSON: Expecting value at line 1, column 2"),
        ('["$text"]', f"{NO_TEMPLATE}JSON that is no object"),
        ("5", f"{NO_TEMPLATE}JSON that is no object"),
        ('{"a": NaN}', f"{NO_TEMPLATE}NaN, an infinity, a number that is too long or "),
        ('{"a": -Infinity}', f"{NO_TEMPLATE}NaN, an infinity, a number that is too lo"),
        ('{"a": ' + "[" * 100_000, f"{NO_TEMPLATE}NaN, an infinity, a number that is "),
        ('{"a": ' + "5" * 5000 + "}", f"{NO_TEMPLATE}NaN, an infinity, a number that "),
        (
            f'"{TOKEN}',
            f"{NO_TEMPLATE}no JSON: Unterminated string starting at line 1, ",
        ),
    ],
    ids=range(21),
)
def test_a_template_that_cannot_be_filled_in_is_refused(template, message):
    with pytest.raises(ConfigError) as error:
        resolve("smoke", overrides={"notify.template": template})
    assert str(error.value).startswith(message)
    assert TOKEN not in str(error.value)


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ('{"a": "$text"}', '{"a": "x\\"y"}'),
        ('{"a": "${text}text", "b": "$$text"}', '{"a": "x\\"ytext", "b": "$text"}'),
        ("{}", "{}"),
    ],
)
def test_a_template_is_filled_in(template, filled):
    config = resolve("smoke", settings=[f"notify.template={template}"])
    assert config.notify.template == template
    assert notifications.fill_template(template, {"text": 'x"y'}) == filled


@pytest.mark.parametrize(
    ("textfile", "advice"),
    [
        ("s3://bucket/vae.prom", "it can't be a URI"),
        ("file:///var/lib/vae.prom", "it can't be a URI"),
        ("s3:/bucket/vae.prom", "a URI has the form s3://BUCKET/FOLDER; write ./s3:/"),
        ("C:\\vae.prom", "write a path of this system, such as /mnt/c/models"),
    ],
)
def test_the_metrics_file_must_not_be_a_uri(textfile, advice):
    with pytest.raises(ValueError, match="textfile must be a path") as error:
        MetricsConfig(textfile=textfile)
    assert f"must be a path of this machine, got {textfile!r}: {advice}" in (
        str(error.value)
    )


@pytest.mark.parametrize("textfile", ["", "/var/lib/vae.prom", "~/vae.prom"])
def test_the_metrics_file_may_be_none_or_a_prom_file(textfile):
    assert MetricsConfig(textfile=textfile).textfile == textfile


def test_a_metrics_file_in_the_home_of_an_unknown_user_is_refused():
    with pytest.raises(ValueError, match=r"textfile: .*~no-such-user"):
        MetricsConfig(textfile="~no-such-user/vae.prom")
