"""WorkloadGroup documents of tests."""

from discovery.document import parse
from federation.resources.read import read
from federation.resources.workload_group import NETWORKS, TOKENS


def group_document(name="reviews", *, sums=(), template="{}", probe="null", labels="{app: reviews}", networks=None):
    where = "" if networks is None else f', {NETWORKS}: "{networks}"'
    text = f"""
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {{name: {name}, namespace: shop, annotations: {{{TOKENS}: "{",".join(sums)}"{where}}}}}
spec: {{metadata: {{labels: {labels}}}, template: {template}, probe: {probe}}}
"""
    documents, errors = parse(text, "g.yaml")
    assert not errors
    found = read(documents)
    assert not found.problems
    return found.workload_groups[0]
