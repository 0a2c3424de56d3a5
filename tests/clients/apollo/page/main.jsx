// A small chat page on parley.mjs. Its address says where the server is: `?api=http://127.0.0.1:8000/graphql`.

import { ApolloProvider, useApolloClient, useMutation, useQuery } from "@apollo/client/react";
import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

import { CREATE_GROUP, GROUP_HISTORY, LOGIN, LOGOUT, MY_GROUPS, REGISTER, USER } from "../documents.mjs";
import { createParley, followGroups, live, load, send } from "../parley.mjs";

const url = new URLSearchParams(location.search).get("api");
const visitor = createParley({ url });

// region react
/** One log-in, one client: nothing of the one before is left, however late it comes. */
function App() {
  const [session, setSession] = useState(null);
  const signedIn = ({ viewer, token }) => {
    const parley = createParley({ url, token, onSignedOut: () => (parley.close(), setSession(null)) });
    setSession({ viewer, client: parley.client });
  };
  return (
    <ApolloProvider client={session?.client ?? visitor.client}>
      {session ? <Groups viewer={session.viewer} /> : <SignIn onSignedIn={signedIn} />}
    </ApolloProvider>
  );
}

/** An open group: what the cache has, kept up to date by `live`. */
function Chat({ viewer, groupId }) {
  const client = useApolloClient();
  const [problem, setProblem] = useState("");
  const { data } = useQuery(GROUP_HISTORY, { variables: { id: groupId }, fetchPolicy: "cache-only" });
  const tell = (error) => setProblem(error.message);

  useEffect(() => {
    const events = live(client, groupId).subscribe({ error: tell });
    return () => events.unsubscribe();
  }, [client, groupId]);

  if (!data?.group) return <p role="status">{problem}</p>;
  const { edges, pageInfo } = data.group.messages;
  return (
    <>
      {pageInfo.hasPreviousPage && <button onClick={() => load(client, groupId, pageInfo.startCursor)}>Older</button>}
      <ol>
        {edges.map(({ node }) => (
          <li key={node.clientMessageId ?? node.id} className={node.version === 0 ? "draft" : ""}>
            {node.sender.username}: {node.content}
          </li>
        ))}
      </ol>
      <Form
        button="Send"
        fields={["A message"]}
        work={(content) => send(client, viewer, groupId, content).catch(tell)}
      />
      <p role="status">{problem}</p>
    </>
  );
}
// endregion

function Groups({ viewer }) {
  const client = useApolloClient();
  const [open, setOpen] = useState(null);
  const { data } = useQuery(MY_GROUPS);
  const [createGroup] = useMutation(CREATE_GROUP);
  const [logout] = useMutation(LOGOUT);

  useEffect(() => {
    const events = followGroups(client).subscribe({ error: () => {} }); // its end is that of the token
    return () => events.unsubscribe();
  }, [client]);

  async function create(name, username) {
    const { data } = await client.query({ query: USER, variables: { username } });
    await createGroup({ variables: { input: { name, memberIds: [data.user.id] } } });
  }

  return (
    <main>
      <p>
        You are {viewer.displayName}. <button onClick={() => logout()}>Log out</button>
      </p>
      <Form button="Create" fields={["A new group", "with this user"]} work={create} />
      <nav>
        {data?.myGroups?.edges.map(({ node }) => (
          <button key={node.id} onClick={() => setOpen(node.id)}>
            {node.name}
          </button>
        ))}
      </nav>
      {open && <Chat key={open} viewer={viewer} groupId={open} />}
    </main>
  );
}

function SignIn({ onSignedIn }) {
  const [register] = useMutation(REGISTER);
  const [login] = useMutation(LOGIN);

  async function enter(username, password, how) {
    const names = { firstName: username, lastName: "Page" };
    const input = how === "Register" ? { username, password, ...names } : { username, password };
    const { data } = await (how === "Register" ? register : login)({ variables: { input } });
    onSignedIn(data.register ?? data.login);
  }

  return <Form button={["Register", "Log in"]} fields={["User name", "Password"]} work={enter} />;
}

/** A form that calls `work` with the values of its fields and the name of its button. */
function Form({ fields, button, work }) {
  function submit(event) {
    event.preventDefault();
    work(...new FormData(event.target).values(), event.nativeEvent.submitter.value);
    event.target.reset();
  }

  return (
    <form onSubmit={submit}>
      {fields.map((field) => (
        <input
          key={field}
          name={field}
          placeholder={field}
          type={field === "Password" ? "password" : "text"}
          required
        />
      ))}
      {[button].flat().map((name) => (
        <button key={name} value={name}>
          {name}
        </button>
      ))}
    </form>
  );
}

createRoot(document.body).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
