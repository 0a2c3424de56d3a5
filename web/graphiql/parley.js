// Parley's GraphiQL page: puts its parts together and starts GraphiQL.
/* global React, ReactDOM, GraphiQL, GraphiQLPluginExplorer */

import "./bar.js";
import { Events } from "./events.js";
import { find, h, say } from "./kit.js";
import { plugin as operations, ready } from "./operations.js";
import { credentials, noticeRefusal, post } from "./session.js";
import { subscription } from "./subscriptions.js";
import { learn, unfilled } from "./variables.js";

/** HTTP, and graphql-transport-ws for subscriptions. */
async function fetcher(params, { headers, documentAST } = {}) {
  const all = credentials(headers);
  const operation = documentAST && GraphiQL.GraphQL.getOperationAST(documentAST, params.operationName);
  if (operation) say(unfilled(operation, params.variables));
  if (operation?.operation === "subscription") return subscription(params, all, operation);
  // GraphiQL would show what is thrown with its stack.
  const result = await post(params, all).catch(({ message }) => ({ errors: [{ message }] }));
  noticeRefusal(result.errors);
  result.data?.__schema?.types.sort((one, other) => (one.name < other.name ? -1 : 1)); // for the list in the docs
  learn(result.data);
  return result;
}

// Editors and history can hold passwords and tokens: they stay with the browser tab. Taste and favourites outlive it.
const LASTING = new Set(["graphiql:theme", "graphiql:favorites"]);
const place = (key) => (LASTING.has(key) ? localStorage : sessionStorage);
const keysIn = (area) => Object.keys(area).filter((key) => key.startsWith("graphiql:"));
const storage = {
  getItem: (key) => place(key).getItem(key),
  setItem: (key, value) => place(key).setItem(key, value),
  removeItem: (key) => place(key).removeItem(key),
  clear: () => [localStorage, sessionStorage].forEach((area) => keysIn(area).forEach((key) => area.removeItem(key))),
  get length() { return keysIn(localStorage).length + keysIn(sessionStorage).length; },
};

const welcome = {
  query: await (await fetch(find("graphiql").dataset.welcome)).text(),
  variables: JSON.stringify({ username: "bob", groupId: "<group id>", userId: "<user id>", content: "Hello!" }, null, 2),
};
// How a browser tab begins. GraphiQL shows the first of `defaultTabs` without its variables, but with those it finds.
const BEGINNING = { variables: welcome.variables, docExplorerFlex: "0.27", editorFlex: "1.25" };
if (!storage.getItem("graphiql:tabState")) {
  Object.entries(BEGINNING).forEach(([key, value]) => storage.setItem(`graphiql:${key}`, value));
}

const plugins = [operations, GraphiQLPluginExplorer.explorerPlugin({ showAttribution: false })];

ReactDOM.createRoot(find("graphiql")).render(
  h(GraphiQL, {
    fetcher,
    storage,
    plugins,
    shouldPersistHeaders: false,
    schemaDescription: true,
    defaultQuery: "",
    defaultEditorToolsVisibility: "variables",
    defaultTabs: [welcome, ...["MyGroups", "SendGroupMessage", "GroupMessages"].map(ready)],
  }, h(GraphiQL.Footer, null, h(Events))),
);
