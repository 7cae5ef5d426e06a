"""Which filter chain is for a server name."""

from gateway.native.chains import Chain, Names
from gateway.snapshot import FilterChain


def chain(name: str) -> Chain:
    return Chain(FilterChain(name, name), None)


def test_names_by_exact_then_longest_wildcard_then_all() -> None:
    names = Names()
    for each in ("a.example", "*.example", "*.b.example"):
        names.add((each,), chain(each))
    assert names.find("other.test") is None
    names.add((), chain("all"))
    names.add(("A.EXAMPLE",), chain("second"))

    def found(name: str) -> str:
        value = names.find(name)
        return value.filters.name if value else ""

    assert found("a.example") == "a.example"
    assert found("x.example") == "*.example"
    assert found("x.y.example") == "*.example"
    assert found("x.b.example") == "*.b.example"
    assert found("b.example") == "*.example"
    assert found("example") == "all"
    assert found("") == "all"
