"""Keeps the gateway's own certificate current, and says so when it cannot.

Theory of operation. The state directory decides where leaves come from:
    ca/ with an intermediate and its key   → embedded: the keeper signs its own leaf, again at half life, and renews the intermediate
                                             in the last fifth of its life while root.key is there
    identity.pem and identity.key          → files: another machine's `fedgate ca issue` wrote them; they are watched
    neither                                → first start: a CA is made, then embedded
What it has is `credential`, what is wrong is `problem`; a certificate that cannot be had is a sentence there, never an exception, and a
good one is never replaced by nothing. Waiting is on trio's clock, validity on `wall`; because the two drift apart when a machine
sleeps, no wait is longer than a minute.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
import trio

from discovery.signature import signature
from discovery.watch import Watchable
from federation.trust.authority import LEAF_TTL, Authority, Issued, init, open_authority, renew, wants_renewal
from federation.trust.certificate import check_pair, identity_of, read_certificates
from federation.trust.files import read_file
from federation.trust.identity import SpiffeId, TrustError, gateway_id
from federation.trust.operations import CA_DIRECTORY, IDENTITY_BUNDLE, IDENTITY_CHAIN, IDENTITY_KEY
from gateway.secret import Secret

HALF_LIFE_SPREAD = 0.01  # FIELD section 0: rotation at 50 % ± 1 % of life, so that gateways do not all renew at once
LONGEST_WAIT = 60.0  # seconds; then the wall clock is read again
LOOK_AT_FILES = 1.0  # seconds between looks at identity files: two stat calls, and an operator's patience
SOON = 0.2  # of its life left: a certificate from files that nobody renewed is worth a warning

_log = structlog.get_logger("trust")


def _wall() -> datetime:
    return datetime.now(UTC)


class Keeper:
    """The gateway's own identity. `run` it; read `credential` (None until there is one), `bundle` (own roots, PEM; "" unknown) and
    `problem` ("" none)."""

    def __init__(
        self,
        state: Path,
        trust_domain: str,
        *,
        cluster: str = "",
        dns_names: Sequence[str] = (),
        ttl: timedelta = LEAF_TTL,
        wall: Callable[[], datetime] = _wall,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._state, self._trust_domain, self._cluster = state, trust_domain, cluster
        self._dns_names, self._ttl = tuple(dns_names), ttl
        self._wall, self._rng = wall, rng
        self._seen: object = None
        self.credential: Watchable[Issued | None] = Watchable(None)
        self.bundle: Watchable[str] = Watchable("")
        self.problem: Watchable[str] = Watchable("")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the credential current until cancelled; `started()` after the first attempt, whatever came of it."""
        wait = self._attempt()
        task_status.started()
        while True:
            await trio.sleep(wait)
            wait = self._attempt()

    def _attempt(self) -> float:
        """One look at everything; returns seconds until the next."""
        try:
            wait, problem = self._step()
        except TrustError as error:
            wait, problem = LOOK_AT_FILES, str(error)
        if problem != self.problem.value:
            _log.warning("trust.problem", problem=problem) if problem else _log.info("trust.recovered")
            self.problem.set(problem)
        return wait

    def _step(self) -> tuple[float, str]:
        ca = self._state / CA_DIRECTORY
        if (ca / "intermediate.key").exists():
            return self._embedded(open_authority(ca) if self._due() else None)
        if (self._state / IDENTITY_CHAIN).exists() or (self._state / IDENTITY_KEY).exists():
            return self._files()
        if ca.exists() and any(ca.iterdir()):
            raise TrustError(
                f"{ca}: has no intermediate.key, so it cannot sign this gateway's certificate; put the key back, "
                f"or put {IDENTITY_CHAIN} and {IDENTITY_KEY} from `fedgate ca issue` into {self._state}"
            )
        authority = init(ca, self._trust_domain, cluster=self._cluster, now=self._wall())
        _log.info("trust.ca_created", directory=str(ca), trust_domain=self._trust_domain)
        return self._embedded(authority)

    # -- embedded CA

    def _due(self) -> bool:
        return self.credential.value is None or not isinstance(self._seen, datetime) or self._wall() >= self._seen

    def _embedded(self, authority: Authority | None) -> tuple[float, str]:
        now = self._wall()
        problem = self.problem.value
        if authority is not None:
            problem = ""
            if wants_renewal(authority, now):
                authority, problem = self._renewed(authority, now)
            if authority.trust_domain != self._trust_domain:
                raise TrustError(
                    f"{authority.directory}: this CA is of trust domain {authority.trust_domain}, but the Node document says "
                    f"{self._trust_domain}; make them agree, or move the directory away to have a new CA made"
                )
            issued = authority.issue(gateway_id(self._trust_domain), self._dns_names, self._ttl, now=now)
            half = 0.5 + HALF_LIFE_SPREAD * (2 * self._rng() - 1)
            self._seen = now + (issued.not_after - now) * half
            self._publish(issued, authority.bundle())
        assert isinstance(self._seen, datetime)
        return min(max((self._seen - now).total_seconds(), LOOK_AT_FILES), LONGEST_WAIT), problem

    def _renewed(self, authority: Authority, now: datetime) -> tuple[Authority, str]:
        try:
            return renew(authority.directory, now=now), ""
        except TrustError as error:
            until = f"{authority.intermediate.not_valid_after_utc:%Y-%m-%d}"
            return authority, f"the CA's intermediate certificate expires {until} and cannot be renewed: {error}"

    # -- files of another CA

    def _files(self) -> tuple[float, str]:
        paths = [self._state / name for name in (IDENTITY_CHAIN, IDENTITY_KEY, IDENTITY_BUNDLE)]
        seen = tuple(signature(path) for path in paths)
        if seen != self._seen:
            issued = self._load(paths[0], paths[1])
            roots = paths[2].read_text() if paths[2].exists() else ""
            self._publish(issued, roots)
            self._seen = seen
        return LOOK_AT_FILES, self._age()

    def _load(self, chain_path: Path, key_path: Path) -> Issued:
        pem = read_file(chain_path, "this gateway's certificate chain, from `fedgate ca issue`")
        key = Secret(read_file(key_path, "the private key of this gateway's certificate"))
        chain = read_certificates(pem, str(chain_path))
        check_pair(chain, key, str(key_path))
        leaf, wanted = chain[0], gateway_id(self._trust_domain)
        identity: SpiffeId = identity_of(leaf)
        if identity != wanted:
            raise TrustError(
                f"{chain_path}: is the certificate of {identity}, this gateway is {wanted}; issue one for that identity"
            )
        if leaf.not_valid_after_utc <= self._wall():
            raise TrustError(f"{chain_path}: expired {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; run `fedgate ca issue` again")
        text = pem.decode("ascii", "replace")
        return Issued(text, key, str(identity), leaf.not_valid_before_utc, leaf.not_valid_after_utc)

    def _age(self) -> str:
        issued, now = self.credential.value, self._wall()
        if issued is None:
            return self.problem.value
        when = f"{issued.not_after:%Y-%m-%d %H:%M} UTC; run `fedgate ca issue` again"
        if now >= issued.not_after:
            return f"{self._state / IDENTITY_CHAIN}: expired {when}"
        if issued.not_after - now < (issued.not_after - issued.not_before) * SOON:
            return f"{self._state / IDENTITY_CHAIN}: expires {when}"
        return ""

    def _publish(self, issued: Issued, roots: str) -> None:
        _log.info("trust.certificate", identity=issued.identity, not_after=issued.not_after.isoformat())
        if roots != self.bundle.value:
            self.bundle.set(roots)
        self.credential.set(issued)
