// What a bundler does for a Relay application: relay-compiler compiles the documents, against the schema of today, and
// babel-plugin-relay turns each graphql`…` into what was compiled. Nothing that was made is kept in the repository.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

import { transformSync } from "@babel/core";
import compiler from "relay-compiler";

const here = import.meta.dirname;
const plugins = [
  "relay",
  ["@babel/transform-react-jsx", { runtime: "automatic" }],
  "@babel/transform-modules-commonjs",
];

execFileSync(compiler, ["relay.config.json"], { cwd: here, stdio: ["ignore", "ignore", "inherit"] });

registerHooks({
  load(url, context, next) {
    const filename = url.startsWith("file:") ? fileURLToPath(url) : "";
    if (dirname(filename) !== here || !/\.jsx?$/.test(filename)) return next(url, context);
    const { code } = transformSync(readFileSync(filename, "utf8"), { filename, plugins, configFile: false });
    return { format: "commonjs", source: code, shortCircuit: true };
  },
});
