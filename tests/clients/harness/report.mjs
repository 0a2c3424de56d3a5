// What `node --test` says, one line for each test: the runner counts the lines that begin with "ok" or "FAILED".

const project = process.env.PARLEY_PROJECT;

export default async function* report(events) {
  for await (const { type, data } of events) {
    if (type === "test:stdout" || type === "test:stderr") yield indented(data.message);
    if (type === "test:diagnostic" && data.message.startsWith("Error")) yield indented(data.message);
    if (type === "test:pass" && data.details.type !== "suite") yield passed(data);
    if (type === "test:fail" && data.details.error.failureType !== "subtestsFailed") yield failed(data);
  }
}

function passed(data) {
  // A test that was not run has shown nothing.
  if (data.skip !== undefined || data.todo !== undefined) return `FAILED  ${project}: ${data.name} (was not run)\n`;
  return `ok      ${project}: ${data.name} (${Math.round(data.details.duration_ms)} ms)\n`;
}

function failed(data) {
  const { cause = data.details.error } = data.details.error;
  return `FAILED  ${project}: ${data.name}\n${indented(cause.stack ?? String(cause))}`;
}

const indented = (text) => text.trimEnd().replace(/^/gm, "        ") + "\n";
