import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { print } from "graphql";
import { createClient } from "graphql-ws";

import { ask as over, eventually, say, shakyWay, socketUrl, url } from "../harness/index.mjs";

const here = import.meta.dirname;

/** A program of a package, in this folder: `{ code, output }`. */
const run = (program, ...words) =>
  new Promise((resolve) => {
    const options = { cwd: here, env: { ...process.env, NODE_OPTIONS: "" } };
    execFile(process.execPath, [`${here}/node_modules/${program}`, ...words], options, (error, out, err) =>
      resolve({ code: error?.code ?? 0, output: out + err }),
    );
  });
const compile = (project) => run("typescript/bin/tsc", "--pretty", "false", "-p", project);

let chat, apollo, documents;

// What is generated depends on the schema and the documents of today; nothing of it is kept in the repository.
before(async () => {
  const { code, output } = await run(".bin/graphql-codegen");
  assert.equal(code, 0, output);
  [chat, apollo, documents] = await Promise.all([
    import("./chat.ts"),
    import("./apollo.ts"),
    import("./gql/graphql.ts"),
  ]);
});

const clients = [];
after(() => Promise.all(clients.map((client) => client.dispose())));

/** Somebody new, registered through the typed documents. */
async function person(prefix) {
  const input = { username: `${prefix}-${randomUUID().slice(0, 8)}`, password: "correct horse" };
  const names = { firstName: prefix, lastName: "Test" };
  const { register } = await chat.ask({ url }, documents.RegisterDocument, { input: { ...input, ...names } });
  return { url, ...register };
}

async function group(admin, ...members) {
  const input = { name: "Chess", memberIds: members.map((member) => member.viewer.id) };
  return (await chat.ask(admin, documents.CreateGroupDocument, { input })).createGroup.group;
}

function socket({ token }, at = socketUrl) {
  const connectionParams = { authorization: `Bearer ${token}` };
  const client = createClient({ url: at, connectionParams, shouldRetry: () => true, retryAttempts: Infinity });
  clients.push(client);
  return client;
}

/** Follows a group with a typed stream; `contents` is what came, `end` how it ended. */
function following(client, { id, headCursor }, onEvent = () => {}) {
  const seen = { contents: [], end: null };
  seen.leave = chat.follow(client, id, headCursor, {
    onEvent: (event) => (seen.contents.push(event.message.content), onEvent(event)),
    onEnd: (end) => (seen.end = end),
  });
  return seen;
}

test("what is generated type-checks in strict mode, and so does a chat that uses it", async () => {
  assert.deepEqual(await compile("tsconfig.json"), { code: 0, output: "" });
});

test("every mistake in types fails to compile", async () => {
  const { output } = await compile("tsconfig.mistakes.json");
  const found = [...output.matchAll(/^mistakes\.ts\((\d+),/gm)].map(([, line]) => Number(line));
  const lines = readFileSync(`${here}/mistakes.ts`, "utf8").split("\n");
  const wrong = lines.flatMap((line, index) => (line.includes("// WRONG:") ? [index + 1] : []));
  assert.ok(wrong.length > 10);
  assert.deepEqual(found, wrong, output);
});

test("there is a typed document for each file of graphql/operations", () => {
  const files = readdirSync(`${here}/../../../graphql/operations`).map((file) => file.replace(".graphql", ""));
  assert.deepEqual(
    files.filter((name) => documents[`${name}Document`]?.definitions[0].name.value !== name),
    [],
  );
});

test("two people chat, and a draft is replaced by exactly its message", async () => {
  const [ada, bob] = [await person("ada"), await person("bob")];
  const { id, headCursor } = await group(ada, bob);
  const messages = new Map();
  const [mine, other] = [chat.draft(ada.viewer, "hello"), chat.draft(ada.viewer, "hello")];
  for (const each of [mine, other]) chat.keep(messages, each);
  const seen = following(socket(ada), { id, headCursor }, ({ message }) => chat.keep(messages, message));
  const { content, clientMessageId } = mine;
  const sent = await chat.ask(ada, documents.SendGroupMessageDocument, {
    input: { groupId: id, content, clientMessageId },
  });
  const { message } = sent.sendGroupMessage;
  chat.keep(messages, message);
  await say(bob, id, "hi");
  await eventually(() => seen.contents.length === 2);
  assert.deepEqual(
    chat.inOrder(messages).map((each) => [each.content, each.sender.username, each.version > 0]),
    [
      ["hello", ada.viewer.username, true],
      ["hi", bob.viewer.username, true],
      ["hello", ada.viewer.username, false],
    ],
  );
  const page = await chat.ask(bob, documents.GroupHistoryDocument, { id });
  assert.deepEqual(page.group.messages.edges[0].node, message);
  assert.deepEqual(
    (await apollo.newest(url, bob.token, id)).map((node) => node.content),
    ["hello", "hi"],
  );
  seen.leave();
});

test("a refusal is thrown with its code", async () => {
  const [ada, bob] = [await person("ada"), await person("bob")];
  const { id } = await group(ada);
  const refused = (error) => error instanceof chat.Refusal && error.code === "FORBIDDEN" && !error.retry;
  await assert.rejects(chat.ask(bob, documents.GroupHistoryDocument, { id }), refused);
});

test("a stream resumes with the last cursor, and its end is told with its code", async () => {
  const [ada, bob] = [await person("ada"), await person("bob")];
  const { id, headCursor } = await group(ada, bob);
  const way = await shakyWay();
  const seen = following(socket(bob, way.socketUrl), { id, headCursor });
  await say(ada, id, "before");
  await eventually(() => seen.contents.length === 1);
  way.admit(false);
  way.cut();
  for (const content of ["one", "two"]) await say(ada, id, content);
  way.admit(true);
  await eventually(() => seen.contents.length === 3);
  assert.deepEqual(seen.contents, ["before", "one", "two"]);
  await over(ada.token, "RemoveMember", { input: { groupId: id, userId: bob.viewer.id } });
  await eventually(() => seen.end);
  assert.equal(seen.end.code, "MEMBERSHIP_ENDED");
  await way.close();
});

test("the list of groups follows what happens to them", async () => {
  const [ada, bob] = [await person("ada"), await person("bob")];
  const { id } = await group(ada, bob);
  const groups = new Map();
  const names = () => [...groups.values()].map(({ name }) => name);
  let began = false;
  const query = print(documents.MyGroupEventsDocument);
  const leave = socket(bob).subscribe(
    { query, variables: { snapshot: true } },
    {
      next: ({ data }) => ((began = true), chat.apply(groups, data.myGroupEvents)),
      error: assert.fail,
      complete() {},
    },
  );
  await eventually(() => began);
  assert.deepEqual(names(), ["Chess"]);
  await over(ada.token, "UpdateGroup", { input: { groupId: id, name: "Go" } });
  await eventually(() => names()[0] === "Go");
  await over(ada.token, "RemoveMember", { input: { groupId: id, userId: bob.viewer.id } });
  await eventually(() => names().length === 0);
  leave();
});
