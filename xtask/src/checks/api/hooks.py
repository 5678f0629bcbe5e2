"""What the fuzzer has to know of this API beyond its description."""

import base64
import hashlib
import os
import re

import schemathesis
from hypothesis import strategies as st

# Of these the description says only the kind; the fuzzer learns to make them.
NETWORKS = st.one_of(
    st.ip_addresses().map(str),
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)).map(lambda it: f"{it[0]}/{it[1]}"),
    st.tuples(st.ip_addresses(v=6), st.integers(0, 128)).map(lambda it: f"{it[0]}/{it[1]}"),
)
schemathesis.openapi.format("ip-network", NETWORKS)


def foreign_key(number):
    """A key that the policy lets pass, as somebody else might have made it."""
    digest = hashlib.sha384(str(number).encode()).digest()
    return "aB3-" + base64.urlsafe_b64encode(digest).decode().replace("-", "x")


schemathesis.openapi.format("api-key", st.integers().map(foreign_key))

# Rules that no schema can state. A well-formed request may be refused for these and nothing else.
BEYOND_A_SCHEMA = {
    ("cursor", "not a cursor that this list has given"),
    ("expires_at", "must be in the future"),
    ("metadata", "must take at most 4096 bytes as JSON"),
    ("since", "must be before `until`"),
    ("since", "must be at most 1500 intervals before `until`; ask for longer ones, or for less time"),
}

IF_MATCH = re.compile(r'\*|"[1-9][0-9]{0,18}"(, "[1-9][0-9]{0,18}")*')
ENTITY_TAG = re.compile(r'"[1-9][0-9]*"')
# Refusals that hang on what was asked before, or on more than one field.
CODES_BEYOND_A_SCHEMA = {"idempotency_key_reused", "policy_refused"}

OWN_KEY_ID = os.environ["KEYGATE_FUZZ_KEY_ID"]
NOBODYS_KEY_ID = "0" * 16


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Drops refusals for reasons that a schema cannot state."""
    if type(failure).__name__ == "MissingHeaderNotRejected":
        # RFC 6585 has a status of its own for a condition that is missing.
        return response.status_code != 428
    if type(failure).__name__ != "RejectedPositiveData":
        return True
    if response.status_code in (409, 412):
        # What the key has become, not what was sent.
        return False
    if response.status_code not in (400, 422):
        return True
    problem = response.json()
    if problem.get("code") in CODES_BEYOND_A_SCHEMA:
        return False
    if problem.get("code") == "invalid_header":
        # The fuzzer takes some texts for valid that the pattern does not match, such as `0`.
        return bool(IF_MATCH.fullmatch((case.headers or {}).get("If-Match", "")))
    errors = problem.get("errors", [])
    reasons = {(error["field"], error["message"]) for error in errors}
    return not reasons or not reasons <= BEYOND_A_SCHEMA


@schemathesis.hook
def before_call(context, case, kwargs):
    """Keeps the fuzzer from ending the key that it calls with, and lets it change others."""
    if case.method == "PUT" and ENTITY_TAG.fullmatch((case.headers or {}).get("If-Match", "")):
        # It cannot guess a version.
        case.headers["If-Match"] = "*"
    if case.path_parameters.get("key_id") == OWN_KEY_ID and case.method != "GET":
        case.path_parameters["key_id"] = NOBODYS_KEY_ID
