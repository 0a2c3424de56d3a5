// What lies in web/graphiql/vendor is what npm ships: npm has checked each package here against the lock's digests.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const shipped = (path) => readFileSync(new URL(`node_modules/${path}`, import.meta.url));
const folder = new URL("../../../web/graphiql/vendor/", import.meta.url);
const kept = (name) => readFileSync(new URL(name, folder));
const explorer = "@graphiql/plugin-explorer";

const FILES = {
  "graphiql.min.js": "graphiql/graphiql.min.js",
  "graphiql.min.css": "graphiql/graphiql.min.css",
  "graphiql-plugin-explorer.min.js": `${explorer}/dist/index.umd.js`,
  "graphiql-plugin-explorer.min.css": `${explorer}/dist/style.css`,
  "react.production.min.js": "react/umd/react.production.min.js",
  "react-dom.production.min.js": "react-dom/umd/react-dom.production.min.js",
  "graphql-ws.min.js": "graphql-ws/umd/graphql-ws.min.js",
  "LICENSE.graphiql": "graphiql/LICENSE",
  "LICENSE.graphiql-explorer": `${explorer}/node_modules/graphiql-explorer/LICENSE`,
  "LICENSE.react": "react/LICENSE",
  "LICENSE.graphql-ws": "graphql-ws/LICENSE.md",
};
// Written here, about the others.
const OURS = [".gitattributes", "NOTICES.txt", "README.md", "SHA256SUMS"];

test("every vendored file and licence is byte for byte what its package on npm holds", () => {
  assert.deepEqual(readdirSync(folder).sort(), [...Object.keys(FILES), ...OURS].sort());
  for (const [name, path] of Object.entries(FILES)) assert.ok(kept(name).equals(shipped(path)), name);
});

test("the README names the versions that were compared", () => {
  const text = kept("README.md").toString();
  for (const name of ["graphiql", explorer, "graphiql-explorer", "react", "react-dom", "graphql-ws"]) {
    const home = name === "graphiql-explorer" ? `${explorer}/node_modules/${name}` : name;
    const { version } = JSON.parse(shipped(`${home}/package.json`));
    assert.ok(text.includes(`\`${name}@${version}\``), `${name}@${version}`);
  }
});

test("the notices name every package that is bundled in GraphiQL and has no licence file of its own here", () => {
  const { sources } = JSON.parse(shipped("graphiql/graphiql.min.js.map"));
  const bundled = new Set(sources.map(packageOf));
  assert.ok(bundled.size > 70, `${bundled.size} packages`);
  const named = [...kept("NOTICES.txt").toString().split(/[\s,]+/), "graphiql", "react", "react-dom"];
  assert.deepEqual([...bundled].filter((name) => !named.includes(name)), []);
});

/** Of `…/node_modules/@scope/name/…` the package. What lies outside of node_modules is GraphiQL's own repository. */
function packageOf(source) {
  const [, name] = /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(source) ?? [];
  const [, folder] = /^\.\.\/\.\.\/([^/]+)/.exec(source) ?? [];
  return name ?? folder?.replace(/^graphiql-/, "@graphiql/") ?? "graphiql";
}
