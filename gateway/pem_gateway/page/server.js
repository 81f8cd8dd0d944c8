// What the page asks the server: the names and colors once, and one question for each image.

export class ServerFault extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
    this.canRetry = status === 0 || status === 429 || status >= 500;
  }
}

const KEY = "api-key";

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

export async function fetchClasses() {
  const answer = await fetch("/v1/classes", { headers: withKey() });
  if (!answer.ok) throw new ServerFault(sentenceOf(await answer.text(), answer.status), answer.status);
  return (await answer.json()).classes;
}

// All regions at once: the slider selects among them without another question.
// XMLHttpRequest, because fetch does not tell how far an upload is.
export function segment(file, { signal, onUpload }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/v1/segment?threshold=0");
    request.setRequestHeader("Accept", "application/json");
    for (const [name, value] of Object.entries(withKey())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onUpload(event.loaded / event.total);
    request.onerror = () => reject(new ServerFault("The server does not answer.", 0));
    request.onload = () => {
      if (request.status === 200) resolve(JSON.parse(request.responseText));
      else reject(new ServerFault(sentenceOf(request.responseText, request.status), request.status));
    };
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

function withKey() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function sentenceOf(body, status) {
  try {
    const sentence = JSON.parse(body).error;
    return sentence[0].toUpperCase() + sentence.slice(1) + ".";
  } catch {
    return `The server answered with status ${status}.`;
  }
}
