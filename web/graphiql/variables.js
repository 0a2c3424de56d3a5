// Variables that are prepared: "<group id>" and the like are filled with what the person's own answers said last.
/* global React */

import { cell } from "./kit.js";
import { username } from "./session.js";
import { useTabs } from "./tabs.js";

const first = (connection) => connection?.nodes?.[0] ?? connection?.edges?.[0]?.node;

const ANSWERS = {
  "<group id>": (data) =>
    data.createGroup?.group.id ?? data.group?.id ?? first(data.myGroups)?.id ??
    data.myGroupEvents?.group?.id ?? data.myGroupEvents?.groups?.[0]?.id,
  "<inviting group id>": (data) => data.myInvitations?.[0]?.groupId ?? data.myGroupEvents?.invitation?.groupId,
  "<message id>": (data) => data.sendGroupMessage?.message.id ?? data.groupMessages?.message.id,
  "<user id>": (data) => data.user?.id,
  "<message id>": (data) => data.sendGroupMessage?.message?.id,
  "<cursor>": (data) =>
    data.group?.startCursor ?? data.group?.headCursor ?? first(data.myGroups)?.headCursor ?? data.groupMessages?.cursor,
};
/** The operation of the pane to run for each. */
const SOURCES = {
  "<group id>": "MyGroups or CreateGroup",
  "<inviting group id>": "MyInvitations",
  "<message id>": "SendGroupMessage",
  "<user id>": "User",
  "<message id>": "SendGroupMessage",
  "<cursor>": "Group",
};

const known = cell({});
const mine = (name) => `${username()} ${name}`;

/** Remembers the ids that a result names. */
export function learn(data) {
  if (!data) return;
  const found = Object.entries(ANSWERS).map(([name, read]) => [mine(name), read(data)]);
  const news = found.filter(([name, value]) => value && known.get()[name] !== value);
  if (news.length) known.set({ ...known.get(), ...Object.fromEntries(news) });
}

export function fill(text) {
  const value = (name) => JSON.stringify(known.get()[mine(name)] ?? name);
  return Object.keys(ANSWERS).reduce((filled, name) => filled.replaceAll(`"${name}"`, value(name)), text);
}

/** What to do first about a variable of this operation that is not filled yet; empty if there is none. */
export function unfilled({ variableDefinitions = [] }, variables) {
  const text = JSON.stringify(variableDefinitions.map(({ variable }) => variables?.[variable.name.value]));
  const name = Object.keys(ANSWERS).find((each) => text.includes(`"${each}"`));
  return name ? `Variables still hold ${name}. Run ${SOURCES[name]} first: its answer fills it in.` : "";
}

/** Fills the variables of the chosen tab as soon as something is known. */
export function useFilledVariables() {
  const { variableEditor, tabs, activeTabIndex } = useTabs();
  const ids = known.use();
  React.useEffect(() => {
    const text = variableEditor?.getValue() ?? "";
    if (fill(text) !== text) variableEditor.setValue(fill(text));
  }, [variableEditor, tabs[activeTabIndex].id, ids]);
}
