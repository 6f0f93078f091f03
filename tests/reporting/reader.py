"""What a chart or a page holds, for tests that look into it."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}
Element = tuple[str, dict[str, str], list[str]]


class Reader(HTMLParser):
    """Every element with its attributes, and the text inside it; AssertionError where a tag is not closed."""

    def __init__(self, text: str | None) -> None:
        """None is read as nothing."""
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.text = text or ""
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Texts that follow are inside it until it is closed."""
        element = (tag, {key: value or "" for key, value in attrs}, list[str]())
        self.elements.append(element)
        self.open += [element] if tag not in VOID else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One without a text."""
        self.elements.append((tag, {key: value or "" for key, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        """Must be that of the last that was opened."""
        name, _, _ = self.open.pop()
        assert name == tag, f"<{name}> is closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        """Is inside all that are open."""
        for _, _, texts in self.open:
            texts.append(data)

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """Attributes of every such element."""
        return [own for name, own, _ in self.elements if name == tag and attributes.items() <= own.items()]

    def texts(self, tag: str, **attributes: str) -> list[str]:
        """Text of every such element, with single spaces."""
        shown = [texts for name, own, texts in self.elements if name == tag and attributes.items() <= own.items()]
        return [" ".join("".join(texts).split()) for texts in shown]

    @property
    def ids(self) -> list[str]:
        """In their order."""
        return [own["id"] for _, own, _ in self.elements if "id" in own]
