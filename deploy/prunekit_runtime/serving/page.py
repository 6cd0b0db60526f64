"""A page to try the server with: choose a picture, see its labels over it."""

import base64
import hashlib

_SCRIPT = """
const form = document.forms[0], shown = document.querySelector("img"), said = document.querySelector("p");
form.onsubmit = async event => {
  event.preventDefault();
  const file = form.picture.files[0], headers = {"Content-Type": file.type};
  if (form.token.value) headers.Authorization = "Bearer " + form.token.value;
  said.textContent = "...";
  const answer = await fetch("/predict?format=" + form.format.value, {method: "POST", headers, body: file});
  said.textContent = answer.ok ? "" : (await answer.json()).error;
  if (answer.ok) shown.src = URL.createObjectURL(await answer.blob());
};
"""
_STYLE = "body{font:16px sans-serif;margin:2em}img{max-width:100%;margin-top:1em}"
PAGE = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>prunekit</title><style>{_STYLE}</style>
<h1>prunekit</h1>
<form>
<input type="file" name="picture" accept="image/png,image/jpeg" required aria-label="picture">
<select name="format" aria-label="result"><option>overlay<option>mask<option>contour<option>side-by-side</select>
<input type="password" name="token" placeholder="token, if there is one" autocomplete="off" aria-label="token">
<button>Label</button>
</form>
<p role="status"></p><img alt=""><script>{_SCRIPT}</script></html>
""".encode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


PAGE_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src {_hash(_STYLE)}; "
        "img-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
