"""Content credentials (C2PA): whether a file carries a signed record of its making, and whether it holds.

The optional extra `unseen[c2pa]` reads them. Nothing is fetched: a record elsewhere is not followed,
and signers are not looked up in a list of trusted ones, so a valid record says that the file was not changed
since it was signed, and by whom it claims to be.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["c2pa_of"]

OFFLINE = {
    "verify": {
        "verify_trust": False,
        "ocsp_fetch": False,
        "remote_manifest_fetch": False,
        "verify_timestamp_trust": False,
    }
}


def c2pa_of(path: Path) -> dict[str, Any]:
    """Return `status` (`not looked for`, `none`, `present`, `unreadable`), and what a record says.

    With a record: `validation` (`Valid`, `Invalid`, ...), `generator`, `issuer`, `title`, `actions`, and
    `problems`, the codes of failed checks.
    """
    try:
        import c2pa
    except ImportError:
        return {"status": "not looked for", "note": "install unseen[c2pa] to look for content credentials"}
    try:
        with c2pa.Context.from_dict(OFFLINE) as context:
            reader = c2pa.Reader.try_create(path, context=context)
            if reader is None:
                return {"status": "none"}
            with reader:
                told = json.loads(reader.json())
    except c2pa.C2paError as error:
        text = " ".join(str(error).split())[:200]
        if "NotSupported" in type(error).__name__ or "not supported" in text.lower():
            return {"status": "not looked for", "note": "the c2pa library does not read this kind of file"}
        return {"status": "unreadable", "note": text}
    except (OSError, ValueError) as error:
        return {"status": "unreadable", "note": " ".join(str(error).split())[:200]}
    return _described(told)


def _described(told: dict[str, Any]) -> dict[str, Any]:
    active = told.get("manifests", {}).get(told.get("active_manifest"), {})
    info = active.get("claim_generator_info") or [{}]
    generator = (
        active.get("claim_generator")
        or " ".join(str(info[0].get(k, "")) for k in ("name", "version")).strip()
    )
    actions = [
        str(action.get("action"))
        for assertion in active.get("assertions", [])
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", [])
    ]
    return {
        "status": "present",
        "validation": str(told.get("validation_state", "not said")),
        "generator": str(generator)[:200] or None,
        "issuer": str((active.get("signature_info") or {}).get("issuer") or "")[:200] or None,
        "title": str(active.get("title") or "")[:200] or None,
        "actions": actions[:20],
        "problems": [str(entry.get("code")) for entry in told.get("validation_status", [])][:20],
    }
