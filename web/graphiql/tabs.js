// GraphiQL's tabs, from outside of its components.
/* global GraphiQL, React, ReactDOM */

const { useEditorContext, useExecutionContext } = GraphiQL.React;
const LEAVE = { Tab: false, "Shift-Tab": false };
const HINT = "The answer appears here. Run with \u25b6 or Ctrl+Enter.";
let editors;
let execution;

/** Keeps what GraphiQL says of its tabs and editors; a component that is always there uses it. */
export function useTabs() {
  editors = useEditorContext({ nonNull: true });
  execution = useExecutionContext({ nonNull: true });
  return editors;
}

/** Makes the editors wrap long lines, say their names to screen readers, and let the Tab key leave. */
export function useEditors() {
  const { queryEditor, variableEditor, headerEditor, responseEditor } = useTabs();
  useEditor(queryEditor, "Operation");
  useEditor(variableEditor, "Variables");
  useEditor(headerEditor, "Headers");
  useEditor(responseEditor, "Response");
  React.useEffect(() => hinted(responseEditor), [responseEditor]);
}

function useEditor(editor, name) {
  React.useEffect(() => {
    editor?.addKeyMap(LEAVE);
    editor?.setOption("lineWrapping", true);
    editor?.getInputField().setAttribute("aria-label", name);
  }, [editor]);
}

/** Shows a hint in place of an answer; returns what undoes it. */
function hinted(editor) {
  if (!editor) return;
  const show = () => (editor.getWrapperElement().dataset.hint = editor.getValue() ? "" : HINT);
  show();
  editor.on("change", show);
  return () => editor.off("change", show);
}

/** Keeps the chosen tab in view where they do not all fit. */
export function useTabInView() {
  const { tabs, activeTabIndex } = useTabs();
  const { id, title } = tabs[activeTabIndex];
  React.useEffect(() => {
    const near = { inline: "nearest", block: "nearest" };
    const show = () => document.querySelector(".graphiql-tab-active")?.scrollIntoView(near);
    const room = new ResizeObserver(show);
    room.observe(document.querySelector(".graphiql-tabs"));
    return () => room.disconnect();
  }, [id, title, tabs.length]);
}

export const chosenTab = () => editors.tabs[editors.activeTabIndex].id;
export const isOpen = (id) => editors.tabs.some((tab) => tab.id === id);

/** Chooses the tab that holds this document, or opens one, and goes to its editor. */
export function open(query, variables) {
  const index = editors.tabs.findIndex((tab) => tab.query === query);
  if (index !== editors.activeTabIndex) execution.stop();
  if (index < 0) add(query, variables);
  else if (index !== editors.activeTabIndex) editors.changeTab(index);
  editors.queryEditor.focus();
}

function add(query, variables) {
  ReactDOM.flushSync(editors.addTab);
  editors.variableEditor.setValue(variables);
  editors.queryEditor.setValue(query);
}
