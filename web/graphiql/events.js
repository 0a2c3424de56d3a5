// The panel under the response: what runs, and every event as it came, newest last.
/* global React */

import { h } from "./kit.js";
import { usePane } from "./operations.js";
import { clear, list, running, tabsChanged } from "./subscriptions.js";
import { useEditors, useTabInView, useTabs } from "./tabs.js";
import { useFilledVariables } from "./variables.js";

const time = (at) => at.toLocaleTimeString([], { hour12: false });

const HINT = "Events appear here as they come. Choose another tab, and this goes on.";

const LONGEST_LINE = 160;

/** One line for a result: its kind, who, and what. */
function headline({ data, errors }) {
  if (errors) return ["Error", errors[0].message];
  const [value] = Object.values(data ?? {});
  const who = value?.actor?.displayName ?? value?.message?.sender?.displayName;
  const all = value?.groups && `groups: ${value.groups.length}`;
  const what = value?.message?.content ?? value?.group?.name ?? value?.invitation?.groupName ?? all;
  const text = [who, what].filter(Boolean).join(": ");
  const shown = text.length > LONGEST_LINE ? `${text.slice(0, LONGEST_LINE)} …` : text;
  return [value?.kind ?? value?.__typename ?? "Event", shown];
}

const Entry = React.memo(({ entry: { at, subscription, note, result } }) => {
  const [isOpen, setOpen] = React.useState(false);
  const when = h("time", { dateTime: at.toISOString() }, time(at));
  if (note) return h("li", { className: "note" }, when, " ", `${subscription.name} ${note}`);
  const [kind, text] = headline(result);
  return h("li", null,
    h("details", { onToggle: (event) => setOpen(event.target.open) },
      h("summary", null, when, " ", h("b", null, kind), " ", text),
      isOpen && h("pre", { tabIndex: 0 }, JSON.stringify(result, null, 2))));
});

function Running({ subscription }) {
  const label = `Stop ${subscription.name}`;
  return h("span", { className: `running ${subscription.state.toLowerCase()}` },
    `${subscription.name} `, h("small", { role: "status" }, subscription.state),
    h("button", { type: "button", title: label, "aria-label": label, onClick: () => subscription.stop() }, "×"));
}

/** Keeps the end in view, unless the person has scrolled up to read. */
function useEndInView(entries) {
  const box = React.useRef(null);
  const atEnd = React.useRef(true);
  React.useLayoutEffect(() => {
    if (box.current && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [entries]);
  const onScroll = ({ target }) => (atEnd.current = target.scrollHeight - target.scrollTop - target.clientHeight < 24);
  return { ref: box, onScroll };
}

export function Events() {
  const { tabs, activeTabIndex } = useTabs();
  useEditors();
  useTabInView();
  useFilledVariables();
  usePane();
  React.useEffect(tabsChanged, [tabs.length, tabs[activeTabIndex].id]);
  const { entries, total } = list.use();
  const scrolling = useEndInView(entries);
  const subscriptions = running.use();
  if (!subscriptions.length && !entries.length) return null;
  const shown = entries.filter((each) => each.result).length;
  const count = shown < total ? `${total} events, the newest ${shown}` : `${total} event${total === 1 ? "" : "s"}`;
  return h("section", { id: "events", "aria-label": "Events" },
    h("header", null,
      h("div", null, subscriptions.map((each) => h(Running, { key: each.tab, subscription: each }))),
      h("div", null,
        h("span", { className: "count" }, count),
        h("button", { type: "button", onClick: clear }, "Clear"))),
    h("div", { ...scrolling, role: "log", tabIndex: 0, "aria-label": "Events, newest last" },
      h("ol", null, entries.length
        ? entries.map((entry) => h(Entry, { key: entry.id, entry }))
        : h("li", { className: "note" }, HINT))));
}
