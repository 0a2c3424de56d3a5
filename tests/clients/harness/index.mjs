// What every project's tests stand on: people and groups at the live server, and ways to trouble a connection.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import net from "node:net";

export const url = process.env.PARLEY_URL;
export const port = Number(new URL(url).port);
export const socketUrl = url.replace("http", "ws");

/** The document of graphql/operations/ with that name. */
export const operation = (name) =>
  readFileSync(new URL(`../../../graphql/operations/${name}.graphql`, import.meta.url), "utf8");

/** Run an operation of that name over plain HTTP; the value of its one root field. */
export async function ask(token, name, variables = {}) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) },
    body: JSON.stringify({ query: operation(name), variables }),
  });
  const { data, errors } = await response.json();
  assert.equal(errors, undefined, JSON.stringify(errors));
  return Object.values(data)[0];
}

/** A new user: `{ token, viewer, username, password }`. */
export async function person(prefix) {
  const username = `${prefix}-${randomUUID().slice(0, 8)}`;
  const input = { username, password: "correct horse", firstName: prefix, lastName: "Test" };
  return { ...(await ask(null, "Register", { input })), username, password: input.password };
}

/** The id of a new group of `admin` with these members. */
export async function group(admin, ...members) {
  const input = { name: "Chess", memberIds: members.map((member) => member.viewer.id) };
  return (await ask(admin.token, "CreateGroup", { input })).group.id;
}

/** Send a message; the message as the payload shows it. */
export async function say(sender, groupId, content, clientMessageId = null) {
  const input = { groupId, content, clientMessageId };
  return (await ask(sender.token, "SendGroupMessage", { input })).message;
}

/** The stream position of a group now. */
export const head = async (member, id) => (await ask(member.token, "Group", { id })).headCursor;

/** The contents of the newest messages of a group, as the server has them. */
export async function contents(member, id) {
  return (await ask(member.token, "GroupHistory", { id })).messages.edges.map(({ node }) => node.content);
}

/** The first truthy value of `check`; fails after `seconds`. */
export async function eventually(check, what = "the condition", seconds = 15) {
  for (const end = Date.now() + seconds * 1000; ; await pause(10)) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) assert.fail(`${what} did not come within ${seconds} s: ${check}`);
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const pid = () => Number(readFileSync(process.env.PARLEY_PID_FILE, "utf8"));

/** End the server with a signal, and wait until it serves again. */
export async function restartServer(signal = "SIGTERM") {
  const before = pid();
  process.kill(before, signal);
  await eventually(() => pid() !== before, "the server's restart", 40);
}

/** A way to the server that can be cut (1006) or go silent: `{ port, url, socketUrl, cut, freeze, close }`. */
export async function shakyWay() {
  const pairs = new Set();
  let open = true;
  const server = net.createServer((near) => {
    if (!open) return near.destroy();
    const far = net.connect(port, "127.0.0.1");
    const pair = [near, far];
    pairs.add(pair);
    near.pipe(far).pipe(near);
    for (const end of pair) end.on("error", () => {}).on("close", () => (hangUp(pair), pairs.delete(pair)));
  });
  const hangUp = (pair) => pair.forEach((end) => end.destroy());
  const cut = () => pairs.forEach(hangUp);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const here = `127.0.0.1:${server.address().port}`;
  return {
    url: `http://${here}/graphql`,
    socketUrl: `ws://${here}/graphql`,
    /** Break every connection; while `false` was said to `admit`, new ones break as well. */
    cut,
    admit: (yes) => (open = yes),
    /** Let every connection of now stay open and carry nothing, as after a laptop's sleep. */
    freeze: () => pairs.forEach(([near, far]) => [near, far].forEach((end) => end.unpipe().pause())),
    close: () => (cut(), new Promise((resolve) => server.close(resolve))),
  };
}

/**
 * A WebSocket on which the event of the message `content` becomes the end of its stream, once. The server ends one like
 * this where it cannot read an event just now, which no test can bring about from outside.
 */
export function interruptedAt(content) {
  let interrupted = false;
  return class extends WebSocket {
    set onmessage(listener) {
      super.onmessage = ({ data }) => {
        const { id, type, payload } = JSON.parse(data);
        if (interrupted || type !== "next" || payload.data.groupMessages.message.content !== content)
          return listener({ data });
        interrupted = true;
        const end = { message: "…", extensions: { code: "SERVICE_UNAVAILABLE", retry: true } };
        listener({ data: JSON.stringify({ id, type: "error", payload: [end] }) });
      };
    }
  };
}
