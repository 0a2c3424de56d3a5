// GraphiQL's tabs, from outside of its components.
/* global GraphiQL, React, ReactDOM */

const { useEditorContext, useExecutionContext } = GraphiQL.React;
const LEAVE = { Tab: false, "Shift-Tab": false };
let editors;
let execution;

/** Keeps what GraphiQL says of its tabs and editors; a component that is always there uses it. */
export function useTabs() {
  editors = useEditorContext({ nonNull: true });
  execution = useExecutionContext({ nonNull: true });
  return editors;
}

/** Lets the Tab key leave the editors, where CodeMirror would indent. */
export function useTabKey() {
  const { queryEditor, variableEditor, headerEditor, responseEditor } = useTabs();
  const all = [queryEditor, variableEditor, headerEditor, responseEditor];
  React.useEffect(() => all.forEach((editor) => (editor?.removeKeyMap(LEAVE), editor?.addKeyMap(LEAVE))), all);
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
