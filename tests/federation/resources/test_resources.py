"""What reading leaves: problems that sort and read well."""

from discovery.document import Origin
from federation.resources.resources import Problem, Resources


def test_a_problem_reads_as_one_line():
    problem = Problem("a.yaml", 7, "Peer", "west", "spec.addresses[0]", "port 0 cannot be dialled; write the port")
    assert str(problem) == "a.yaml:7 Peer/west spec.addresses[0]: port 0 cannot be dialled; write the port"
    assert str(Problem("a.yaml", 1, "Peer", "", "", "x")) == "a.yaml:1 Peer: x"
    assert str(Problem("a.yaml", 1, "", "", "kind", "x")) == "a.yaml:1 kind: x"
    assert problem.origin == Origin("a.yaml", 7)


def test_problems_sort_by_place():
    later, earlier = Problem("a", 9, "", "", "", ""), Problem("a", 2, "", "", "", "")
    assert sorted([later, earlier]) == [earlier, later]


def test_resources_begin_empty():
    assert Resources() == Resources()
    assert Resources().gateways == ()
