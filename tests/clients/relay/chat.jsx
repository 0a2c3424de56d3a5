// A group on a page.

// region react
import { Suspense, useMemo, useReducer } from "react";
import {
  useFragment,
  useLazyLoadQuery,
  useMutation,
  usePaginationFragment,
  useRelayEnvironment,
  useSubscription,
} from "react-relay";

import { following, forget, GROUP, inOrder, MESSAGE, MESSAGES, PERSON, SEND, sending } from "./parley";

/** An open group. What it is refused with goes to the error boundary around it. */
export function Chat({ groupId }) {
  const [turn, beginAnew] = useReducer((count) => count + 1, 0);
  return (
    <Suspense fallback="…">
      <Group key={`${groupId} ${turn}`} groupId={groupId} turn={turn} beginAnew={beginAnew} />
    </Suspense>
  );
}

function Group({ groupId, turn, beginAnew }) {
  const environment = useRelayEnvironment();
  const options = { fetchKey: turn, fetchPolicy: turn === 0 ? "store-and-network" : "network-only" };
  const { group } = useLazyLoadQuery(GROUP, { id: groupId }, options);
  const { data, hasPrevious, loadPrevious } = usePaginationFragment(MESSAGES, group);
  const [send] = useMutation(SEND);
  const [problem, tell] = useReducer((_, error) => error.message, "");

  const after = group.messages.headCursor;
  const events = useMemo(() => {
    const onError = (error) => {
      if (!/^CURSOR_/.test(error.code)) return tell(error);
      forget(environment, groupId);
      beginAnew();
    };
    return { ...following(groupId, after), onError };
  }, [environment, groupId, after, beginAnew]);
  useSubscription(events);

  return (
    <>
      {hasPrevious && <button onClick={() => loadPrevious(50)}>Older</button>}
      <ol>
        {inOrder(data.messages).map((node) => (
          <Message key={node.id} message={node} />
        ))}
      </ol>
      <form action={(form) => send({ ...sending(groupId, form.get("content")), onError: tell })}>
        <input name="content" placeholder="A message" />
      </form>
      <p role="status">{problem}</p>
    </>
  );
}

function Message({ message }) {
  const { content, sender, version } = useFragment(MESSAGE, message);
  const { username } = useFragment(PERSON, sender);
  return (
    <li className={version === 0 ? "draft" : ""}>
      {username}: {content}
    </li>
  );
}
// endregion
