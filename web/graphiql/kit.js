// What the modules of the page share: elements, and values that components follow.
/* global React */

export const h = React.createElement;
export const find = (id) => document.getElementById(id);
/** Says one thing to the person, in the bar; the next one takes its place. */
export const say = (text) => (find("notice").textContent = text);

/** A value; a component that calls `use` is drawn again when it changes. */
export function cell(value) {
  const followers = new Set();
  const get = () => value;
  const follow = (follower) => (followers.add(follower), () => followers.delete(follower));
  const set = (next) => {
    value = next;
    followers.forEach((follower) => follower());
  };
  return { get, set, use: () => React.useSyncExternalStore(follow, get) };
}
