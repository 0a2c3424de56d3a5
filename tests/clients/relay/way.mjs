// Holds back and changes what goes over fetch and WebSocket: what comes late, comes in another order, or comes wrong.

const holds = [];
const changes = [];

/** What has `text` in it waits until the returned function is called: a "request", its "answer", or a socket's "frame". */
export function hold(what, text) {
  const { promise, resolve } = Promise.withResolvers();
  holds.push({ what, text, promise });
  return resolve;
}

/**
 * Once, where `change` returns something for the text of a frame that is "sent" or "came", that takes its place; where
 * it does for the text of a request with an "answer", the answer is lost.
 */
export function once(what, change) {
  changes.push({ what, change });
}

/** Whether something is held back by `hold(what, text)`. */
export const reached = (what, text) => holds.some((each) => each.what === what && each.text === text && each.reached);

const released = (what, text) =>
  Promise.all(
    holds
      .filter((each) => each.what === what && text.includes(each.text))
      .map((each) => ((each.reached = true), each.promise)),
  );

function changed(what, text) {
  for (const [index, each] of changes.entries()) {
    const other = each.what === what && each.change(text);
    if (other) return (changes.splice(index, 1), other);
  }
  return text;
}

const { fetch, WebSocket } = globalThis;

globalThis.fetch = async (url, options) => {
  await released("request", options.body);
  const answer = await fetch(url, options);
  await released("answer", options.body);
  if (changed("answer", options.body) !== options.body) throw new TypeError("the answer is lost");
  return answer;
};

globalThis.WebSocket = class extends WebSocket {
  #before = Promise.resolve();

  set onmessage(listener) {
    super.onmessage = ({ data }) => {
      this.#before = this.#before
        .then(() => released("frame", data))
        .then(() => listener({ data: changed("came", data) }));
    };
  }

  send(data) {
    super.send(changed("sent", data));
  }
};
