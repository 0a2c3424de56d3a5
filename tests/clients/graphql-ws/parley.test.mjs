import assert from "node:assert/strict";
import { after, test } from "node:test";

import {
  ask as over,
  eventually,
  group,
  head,
  interruptedAt,
  operation,
  person,
  restartServer,
  say,
  shakyWay,
  socketUrl,
} from "../harness/index.mjs";
import { ask, connect, draft, follow, inOrder, keep, poll } from "./parley.mjs";

const [ada, bob] = await Promise.all([person("ada"), person("bob")]);
const clients = [];
after(() => Promise.all(clients.map((client) => client.dispose())));

/** A client of `who` that notes what happens to its connection. */
function connected(who, { url = socketUrl, ...options } = {}) {
  const client = connect({ url, token: () => who.token, ...options });
  client.codes = [];
  client.connections = 0;
  client.on("connecting", () => client.connections++);
  client.on("opened", (socket) => (client.socket = socket));
  client.on("closed", ({ code }) => client.codes.push(code));
  clients.push(client);
  return client;
}

/** Follows a group; `contents` is what came, `end` how it ended. */
function following(client, groupId, position) {
  const seen = { contents: [], end: null };
  seen.leave = follow(client, operation("GroupMessages"), groupId, position, {
    onEvent: ({ message }) => seen.contents.push(message.content),
    onEnd: (end) => (seen.end = end),
  });
  return seen;
}

const came = (seen, ...contents) =>
  eventually(() => seen.contents.length >= contents.length, contents).then(() =>
    assert.deepEqual(seen.contents, contents),
  );

test("a token in connectionParams authenticates the socket", async () => {
  const { viewer } = await ask(connected(ada), operation("Viewer"));
  assert.equal(viewer.username, ada.username);
});

test("without a good token an operation is refused with UNAUTHENTICATED", async () => {
  const client = connected({}, { connectionParams: undefined });
  await assert.rejects(ask(client, operation("Viewer")), ([{ extensions }]) => extensions.code === "UNAUTHENTICATED");
});

test("queries and mutations work over the socket", async () => {
  const client = connected(ada);
  const id = await group(ada);
  const input = { groupId: id, content: "hello" };
  const { sendGroupMessage } = await ask(client, operation("SendGroupMessage"), { input });
  const { group: found } = await ask(client, operation("GroupHistory"), { id });
  assert.deepEqual(
    found.messages.edges.map(({ node }) => node.id),
    [sendGroupMessage.message.id],
  );
});

test("a subscription gets what others send", async () => {
  const id = await group(ada, bob);
  const seen = following(connected(bob), id, await head(bob, id));
  await say(ada, id, "one");
  await say(ada, id, "two");
  await came(seen, "one", "two");
  seen.leave();
});

test("after a broken connection a client gets exactly what it missed", async () => {
  const id = await group(ada, bob);
  const way = await shakyWay();
  const client = connected(bob, { url: way.socketUrl });
  const seen = following(client, id, await head(bob, id));
  await say(ada, id, "before");
  await came(seen, "before");
  way.admit(false);
  way.cut();
  for (const content of ["one", "two", "three"]) await say(ada, id, content);
  await eventually(() => client.connections > 2, "an attempt that was refused");
  way.admit(true);
  await came(seen, "before", "one", "two", "three");
  await say(ada, id, "after");
  await came(seen, "before", "one", "two", "three", "after");
  assert.ok(client.codes.includes(1006), client.codes);
  seen.leave();
  await way.close();
});

for (const [signal, code] of [
  ["SIGTERM", 1012],
  ["SIGKILL", 1006],
]) {
  test(`after the server's restart by ${signal} a client gets exactly what it missed`, async () => {
    const id = await group(ada, bob);
    const way = await shakyWay();
    const client = connected(bob, { url: way.socketUrl });
    const seen = following(client, id, await head(bob, id));
    await say(ada, id, "before");
    await came(seen, "before");
    way.admit(false); // the client finds the server again only after the others have
    await restartServer(signal);
    await eventually(() => client.codes.length > 0, "the close");
    for (const content of ["one", "two", "three"]) await say(ada, id, content);
    way.admit(true);
    await came(seen, "before", "one", "two", "three");
    assert.equal(client.codes[0], code);
    seen.leave();
    await way.close();
  });
}

test("a client finds its way back while nothing listens on the server's port", async () => {
  const id = await group(ada, bob);
  const client = connected(bob);
  const seen = following(client, id, await head(bob, id));
  await say(ada, id, "before");
  await came(seen, "before");
  await restartServer("SIGKILL");
  await say(ada, id, "missed");
  await came(seen, "before", "missed");
  assert.ok(client.connections > 2, "no attempt was refused");
  seen.leave();
});

test("a connection that has gone silent is replaced, and nothing is lost", async () => {
  const id = await group(ada, bob);
  const way = await shakyWay();
  const client = connected(bob, { url: way.socketUrl, keepAlive: 200 });
  const seen = following(client, id, await head(bob, id));
  await say(ada, id, "before");
  await came(seen, "before");
  way.freeze();
  await say(ada, id, "missed");
  await came(seen, "before", "missed");
  seen.leave();
  await way.close();
});

test("removal ends a stream with MEMBERSHIP_ENDED, and the client does not come back", async () => {
  const id = await group(ada, bob);
  const client = connected(bob);
  const seen = following(client, id, await head(bob, id));
  await say(ada, id, "one");
  await came(seen, "one");
  await over(ada.token, "RemoveMember", { input: { groupId: id, userId: bob.viewer.id } });
  await eventually(() => seen.end, "the end");
  assert.equal(seen.end.code, "MEMBERSHIP_ENDED");
  assert.equal(seen.end.retry, false);
  assert.equal(client.connections, 1);
});

test("a stream that ends with retry goes on after the last event that came", async () => {
  const id = await group(ada, bob);
  const client = connected(bob, { webSocketImpl: interruptedAt("two") });
  const seen = following(client, id, await head(bob, id));
  for (const content of ["one", "two", "three"]) await say(ada, id, content);
  await came(seen, "one", "two", "three");
  seen.leave();
});

test("a fatal close code is not retried", async () => {
  const id = await group(ada, bob);
  const client = connected(bob);
  const seen = following(client, id, await head(bob, id));
  await say(ada, id, "one");
  await came(seen, "one");
  client.socket.send('{"type": "nonsense"}');
  await eventually(() => seen.end, "the end");
  assert.equal(seen.end.code, 4400);
  assert.equal(client.connections, 1);
});

test("a log-out gives SESSION_EXPIRED and then 4403, and the client does not come back", async () => {
  const eve = await person("eve");
  const id = await group(eve, ada);
  const client = connected(eve);
  const seen = following(client, id, await head(eve, id));
  await say(ada, id, "one");
  await came(seen, "one");
  const happened = [];
  client.on("message", ({ type }) => type === "error" && happened.push("error"));
  client.on("closed", ({ code }) => happened.push(code));
  await over(eve.token, "Logout");
  await eventually(() => happened.length === 2, "error and close");
  assert.equal(seen.end.code, "SESSION_EXPIRED");
  assert.deepEqual(happened, ["error", 4403]);
  assert.equal(client.connections, 1);
});

test("a token that is not good is told so once", async () => {
  const client = connected({ token: "no-such-token" });
  await assert.rejects(ask(client, operation("Viewer")), ({ code }) => code === 4403);
  assert.equal(client.connections, 1);
});

test("polling gives the same events, and takes over where a stream stopped", async () => {
  const id = await group(ada, bob);
  const client = connected(bob);
  let last = await head(bob, id);
  const streamed = [];
  const leave = follow(client, operation("GroupMessages"), id, last, {
    onEvent: (event) => (streamed.push(event), (last = event.cursor)),
    onEnd: assert.fail,
  });
  await say(ada, id, "one");
  await eventually(() => streamed.length === 1);
  leave();
  await say(ada, id, "two");
  const polled = [];
  const stopped = new AbortController();
  const done = poll((variables) => ask(client, operation("GroupMessageEvents"), { ...variables, first: 1 }), id, last, {
    onEvent: (event) => polled.push(event.message.content),
    signal: stopped.signal,
    every: 20,
  });
  await say(ada, id, "three");
  await eventually(() => polled.length === 2);
  stopped.abort();
  await done;
  assert.deepEqual([streamed[0].message.content, ...polled], ["one", "two", "three"]);
});

test("draft, answer and event in any order are one message, and other drafts stay", async () => {
  const id = await group(ada, bob);
  const client = connected(ada);
  const position = await head(ada, id);
  const [mine, other] = [draft(ada.viewer, "hello"), draft(ada.viewer, "hello")];
  const answer = await say(ada, id, mine.content, mine.clientMessageId);
  const event = await new Promise((resolve, reject) => {
    const leave = follow(client, operation("GroupMessages"), id, position, {
      onEvent: ({ message }) => resolve(message, leave()),
      onEnd: reject,
    });
  });
  for (const order of permutations([mine, answer, event])) {
    const messages = new Map();
    keep(messages, other);
    order.forEach((message) => keep(messages, message));
    assert.deepEqual(
      inOrder(messages).map((message) => message.id),
      [answer.id, other.id],
    );
  }
});

function permutations(items) {
  if (items.length < 2) return [items];
  return items.flatMap((item) => permutations(items.filter((other) => other !== item)).map((rest) => [item, ...rest]));
}
