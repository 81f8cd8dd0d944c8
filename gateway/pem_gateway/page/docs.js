// Shows /openapi.json for reading: every operation with its parameters, bodies and answers.

const $ = (id) => document.getElementById(id);

function node(name, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(name), attributes);
  element.append(...children);
  return element;
}

function table(title, rows) {
  if (!rows.length) return "";
  const body = rows.map(([head, ...cells]) =>
    node("tr", {}, node("th", { scope: "row" }, node("code", {}, head)), ...cells.map((each) => node("td", {}, each))),
  );
  return node("table", {}, node("caption", {}, title), node("tbody", {}, ...body));
}

function typeOf(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" or ");
  const low = schema.exclusiveMinimum !== undefined ? `above ${schema.exclusiveMinimum}` : schema.minimum;
  const range = low === undefined ? "" : schema.maximum === undefined ? `, ${low} or more` : `, ${low} to ${schema.maximum}`;
  const usual = schema.default === undefined ? "" : `, ${schema.default} when left out`;
  return `${schema.format ?? schema.type ?? "any"}${range}${usual}`;
}

const bodies = (content = {}) => Object.entries(content).map(([kind, { schema }]) => `${kind} (${typeOf(schema)})`).join(", ");

function operation(method, path, shared, about) {
  const parameters = [...shared, ...(about.parameters ?? [])];
  const answers = Object.entries(about.responses);
  return node(
    "details", { open: about.operationId === "segment" },
    node("summary", {}, node("b", { className: "method" }, method.toUpperCase()), node("code", {}, path), node("span", {}, about.summary)),
    node(
      "div", { className: "inside" },
      about.description ? node("p", {}, about.description) : "",
      table("Parameters", parameters.map((each) => [each.name, each.in, typeOf(each.schema), each.description ?? ""])),
      about.requestBody ? table("Body", Object.entries(about.requestBody.content).map(([kind, { schema }]) => [kind, typeOf(schema)])) : "",
      table("Answers", answers.map(([status, each]) => [status, each.description, bodies(each.content)])),
    ),
  );
}

function section(tag, paths) {
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    ["get", "post"]
      .filter((method) => item[method]?.tags.includes(tag.name))
      .map((method) => operation(method, path, item.parameters ?? [], item[method])),
  );
  const names = { plain: "Plain HTTP", kserve: "KServe", health: "Health" };
  return [node("h2", {}, names[tag.name] ?? tag.name, node("small", {}, tag.description)), ...operations];
}

function schemas(all) {
  const shown = Object.entries(all).map(([name, schema]) =>
    node("details", {}, node("summary", {}, node("code", {}, name), node("span", {}, schema.description ?? "")), node("div", { className: "inside" }, node("pre", {}, JSON.stringify(schema, null, 2)))),
  );
  return [node("h2", {}, "Schemas"), ...shown];
}

const url = `${location.origin}/v1/segment`;
$("examples").textContent = [
  "# What is in the image, as JSON",
  `curl --data-binary @photo.jpg ${url}`,
  "# Only what is nearly certain",
  `curl --data-binary @photo.jpg '${url}?threshold=0.9'`,
  "# The class map: class id + 1 of each pixel, 0 for nothing",
  `curl --data-binary @photo.jpg -H 'Accept: image/png' ${url} -o classes.png`,
  "# The image with its regions drawn over it",
  `curl --data-binary @photo.jpg '${url}?overlay=true' -o overlay.png`,
  "# As a form",
  `curl -F image=@photo.jpg ${url}`,
  "# With a key, where the server wants one",
  `curl -H 'Authorization: Bearer KEY' --data-binary @photo.jpg ${url}`,
].join("\n").replaceAll("\n#", "\n\n#");

const about = await (await fetch("/openapi.json")).json();
$("title").textContent = about.info.title;
$("about").textContent = about.info.description;
$("operations").replaceChildren(...about.tags.flatMap((tag) => section(tag, about.paths)), ...schemas(about.components.schemas));
