// An app of the TypeScript SDK that serves a function which Python defers.
// Run by test_live_defer_typescript.py, which names the server, the port and the id.
const http = require("node:http");
const { Inngest } = require("inngest");
const { createDefer } = require("inngest/experimental");
const { serve } = require("inngest/node");

const { PORT, APP, TOLD } = process.env;
const client = new Inngest({ id: APP });

const summarise = createDefer(client, { id: "summarise", retries: 0 }, async ({ event, parents }) => {
  await fetch(TOLD, { method: "POST", body: JSON.stringify({ data: event.data, parents }) });
});

const handler = serve({
  client,
  functions: [summarise],
  serveOrigin: `http://127.0.0.1:${PORT}`,
  servePath: "/api/inngest",
});
http.createServer(handler).listen(Number(PORT), "127.0.0.1");
