// Sends spans with one of OpenTelemetry's own exporters, and prints what became of them as one line of JSON:
// {"ok": true, "error": "", "spans": [{"traceId": "…", "spanId": "…"}]}. Its one argument is JSON, too:
// exporter (grpc, http, proto), endpoint, compression (none, gzip), headers, and for TLS the PEM files
// authority and, to show a client certificate, certificate and key.
'use strict';

const fs = require('node:fs');
const { trace, context, SpanKind } = require('@opentelemetry/api');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } = require('@opentelemetry/sdk-trace-base');

const options = JSON.parse(process.argv[2]);
const pem = (name) => (options[name] ? fs.readFileSync(options[name]) : undefined);

function grpcExporter() {
  const grpc = require('@grpc/grpc-js');
  const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-grpc');
  const metadata = new grpc.Metadata();
  Object.entries(options.headers).forEach(([name, value]) => metadata.set(name, value));
  const credentials = options.authority
    ? grpc.credentials.createSsl(pem('authority'), pem('key') ?? null, pem('certificate') ?? null)
    : grpc.credentials.createInsecure();
  return new OTLPTraceExporter({ url: options.endpoint, compression: options.compression, metadata, credentials });
}

function httpExporter() {
  const { OTLPTraceExporter } = require(`@opentelemetry/exporter-trace-otlp-${options.exporter}`);
  const tls = { ca: pem('authority'), cert: pem('certificate'), key: pem('key') };
  return new OTLPTraceExporter({
    url: options.endpoint,
    compression: options.compression,
    headers: options.headers,
    httpAgentOptions: options.authority ? tls : {},
  });
}

function calls(count) {
  const memory = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'node-gateway' }),
    spanProcessors: [new SimpleSpanProcessor(memory)],
  });
  const tracer = provider.getTracer('gateway');
  for (let number = 0; number < count; number += 1) {
    const attributes = {
      'http.request.method': 'GET',
      'http.route': '/orders/{id}',
      'http.response.status_code': 200,
      'url.scheme': 'https',
      'url.path': `/orders/${number}`,
      'server.address': 'api.example.org',
      'user_agent.original': 'node-test/1.0 größer',
    };
    const span = tracer.startSpan('GET /orders/{id}', { kind: SpanKind.SERVER, attributes });
    const inner = trace.setSpan(context.active(), span);
    tracer.startSpan('GET', { kind: SpanKind.CLIENT }, inner).end();
    span.end();
  }
  return memory.getFinishedSpans();
}

const spans = calls(options.calls);
const exporter = options.exporter === 'grpc' ? grpcExporter() : httpExporter();
exporter.export(spans, async (result) => {
  await exporter.shutdown();
  const servers = spans.filter((span) => span.kind === SpanKind.SERVER).map((span) => span.spanContext());
  const error = result.error ? `${result.error.code ?? ''} ${result.error.message}` : '';
  process.stdout.write(JSON.stringify({ ok: result.code === 0, error, spans: servers }) + '\n');
});
