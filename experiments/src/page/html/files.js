// Files that the page offers: tables as CSV.

/** Offers rows of values as a CSV file, quoted after RFC 4180. */
function download(name, lines) {
  const quoted = (value) => {
    const text = value === null || value === undefined || Number.isNaN(value) ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  save(name, "text/csv", lines.map((line) => line.map(quoted).join(",") + "\n").join(""));
}

function save(name, kind, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: kind })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** The address of a file beside the page. */
const beside = (path) => path.split("/").map(encodeURIComponent).join("/");
