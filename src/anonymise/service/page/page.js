// Sends the chosen picture, and shows it next to the answer.

const $ = (id) => document.getElementById(id);
$("origin").textContent = location.origin;

function say(text, isBad = false) {
  $("status").textContent = text;
  $("status").className = isBad ? "bad" : "";
}

function show(image, blob) {
  if (image.src) URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
}

async function send(file) {
  say("Looking for people and vehicles …");
  show($("before"), file);
  $("after").removeAttribute("src");
  $("pair").hidden = false;
  const headers = { "Content-Type": file.type || "image/jpeg" };
  if ($("token").value) headers.Authorization = `Bearer ${$("token").value}`;
  try {
    const response = await fetch("anonymize", { method: "POST", headers, body: file });
    if (!response.ok) throw new Error(await response.text());
    const blob = await response.blob();
    show($("after"), blob);
    $("save").href = $("after").src;
    $("save").download = `${file.name.replace(/\.[^.]*$/, "")}_anonymised.${blob.type === "image/png" ? "png" : "jpg"}`;
    const found = response.headers.get("X-Anonymise-Objects").split(";").filter(Boolean).map((entry) => entry.split("=").reverse().join(" "));
    say(found.length ? `Hidden: ${found.join(", ")}` : "Nothing was found.");
  } catch (error) {
    $("pair").hidden = true;
    say(error instanceof TypeError ? "The service does not answer." : error.message, true);
  }
}

const drop = $("drop");
for (const name of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
  });
}
$("file").addEventListener("change", (event) => event.target.files.length && send(event.target.files[0]));
$("form").addEventListener("submit", (event) => event.preventDefault());
