"""Writes docker/.env from docker/.env.example: secrets that it lacks are made; what it has stays."""

import base64
import os
import re
import secrets
from pathlib import Path

FOLDER = Path(__file__).parent
SECRET = re.compile(r"^([A-Z_]+)=$", re.MULTILINE)


def main(folder: Path = FOLDER) -> None:
    env, text = folder / ".env", (folder / ".env.example").read_text()
    have = env.read_text() if env.exists() else ""
    missing = [name for name in SECRET.findall(text) if not re.search(rf"^{name}=.", have, re.MULTILINE)]
    new = {name: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode() for name in missing}
    if not have:
        text = SECRET.sub(lambda match: match[1] + "=" + new[match[1]], text)
    elif new:
        text = have.rstrip("\n") + "\n" + "".join(f"{name}={value}\n" for name, value in new.items())
    else:
        text = have
    aside = folder / ".env.new"
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    aside.replace(env)


if __name__ == "__main__":
    main()
