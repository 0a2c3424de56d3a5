// The documents of graphql/operations as a pane of GraphiQL; each opens as a tab with its variables prepared.
/* global GraphiQL, React */

import { find, h } from "./kit.js";
import { open } from "./tabs.js";
import { fill } from "./variables.js";

const sections = await (await fetch(find("graphiql").dataset.operations)).json();
const all = sections.flatMap((section) => section.operations);

/** The operation of that name as a tab for the start. */
export function ready(name) {
  const { document: query, variables } = all.find((each) => each.name === name);
  return { query, variables: written(variables) };
}

const written = (variables) => (Object.keys(variables).length ? JSON.stringify(variables, null, 2) : "");

const ROOMY = 1_200; // pixels
const { usePluginStore, useSchemaStore } = GraphiQL.React;
const { getOperationAST, parse, TypeInfo, visit, visitWithTypeInfo } = GraphiQL.GraphQL;

/** The operation, its kind, and the first sentence of the field that it is about. */
function described(operation, schema) {
  const tree = getOperationAST(parse(operation.document));
  const description = (schema && about(tree, schema)?.description) ?? "";
  const [sentence] = description.replaceAll("`", "").split(/(?<=\.)\s/);
  return { ...operation, sentence, isLive: tree.operation === "subscription" };
}

/** The root field, or the last field below it that takes arguments: of `group(id:) { messages(last:) }` the messages. */
function about(tree, schema) {
  const types = new TypeInfo(schema);
  let found;
  const look = (node) => void (found = !found || node.arguments.length ? types.getFieldDef() : found);
  visit(tree, visitWithTypeInfo(types, { Field: look }));
  return found;
}

function Operation({ name, document, variables, isLive, sentence }) {
  const live = isLive && h("span", { className: "badge" }, "live");
  return h("li", null,
    h("button", { type: "button", onClick: () => (giveWay(), open(document, fill(written(variables)))) },
      h("span", { className: "name" }, name, " ", live), h("span", { className: "sentence" }, sentence)));
}

function Operations() {
  const { schema } = useSchemaStore();
  const shown = React.useMemo(
    () => sections.map(({ section, operations }) => [section, operations.map((each) => described(each, schema))]),
    [schema],
  );
  return h("section", { id: "operations", "aria-label": "Operations" },
    h("div", { className: "graphiql-doc-explorer-title" }, "Operations"),
    h("p", null, "The documents of graphql/operations. Each opens as a tab, ready to run."),
    shown.map(([section, operations]) => h(React.Fragment, { key: section },
      h("h2", null, section),
      h("ul", null, operations.map((each) => h(Operation, { key: each.name, ...each }))))));
}

// GraphiQL opens and closes panes only by their buttons.
const press = (name) => document.querySelector(`[aria-label="${name} ${plugin.title}"]`)?.click();
const isRoomy = () => innerWidth >= ROOMY;

/** Closes the pane where it leaves too little room for what was chosen in it. */
function giveWay() {
  if (!isRoomy()) press("Hide");
}

/** Opens the pane at the start where there is room for it, and shows whatever is chosen in a pane from its top. */
export function usePane() {
  const { plugins, visiblePlugin } = usePluginStore();
  const isReady = plugins.length > 0;
  React.useEffect(() => void (isReady && isRoomy() && press("Show")), [isReady]);
  React.useEffect(() => fromTheTop(document.querySelector(".graphiql-plugin")), [visiblePlugin]);
}

/** Scrolls up now and whenever the docs have turned to another page; returns what ends that. */
function fromTheTop(pane) {
  const title = () => pane.querySelector(".graphiql-doc-explorer-title")?.innerText;
  let shown = title();
  const turning = new MutationObserver(() => {
    if (title() === shown) return;
    shown = title();
    pane.scrollTo(0, 0);
  });
  pane.scrollTo(0, 0);
  turning.observe(pane, { subtree: true, childList: true, characterData: true });
  return () => turning.disconnect();
}

function Icon() {
  return h("svg", { viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", strokeWidth: 1.5, "aria-hidden": true },
    h("path", { d: "M4 6h2M10 6h10M4 12h2M10 12h10M4 18h2M10 18h10", strokeLinecap: "round" }));
}

export const plugin = { title: "Operations", icon: Icon, content: Operations };
