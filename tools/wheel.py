"""Checks and unpacks a wheel, which is a zip file, with the standard library alone. tools/setup calls it.

python3 tools/wheel.py check WHEEL SHA256                  exit status 0 if that is the file's hash
python3 tools/wheel.py unpack WHEEL [MEMBER DESTINATION].. a MEMBER that ends in "/" is a folder
"""

import hashlib
import os
import shutil
import sys
import zipfile


def check(wheel, sha256):
    digest = hashlib.sha256()
    with open(wheel, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return 0 if digest.hexdigest() == sha256 else 1


def unpack(wheel, *pairs):
    with zipfile.ZipFile(wheel) as archive:
        for member, destination in zip(pairs[::2], pairs[1::2]):
            if not member.endswith("/"):
                write(archive, member, destination)
                continue
            for name in archive.namelist():
                if name.startswith(member) and not name.endswith("/"):
                    write(archive, name, os.path.join(destination, name[len(member) :]))
    return 0


def write(archive, member, destination):
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    with archive.open(member) as source, open(destination, "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


if __name__ == "__main__":
    sys.exit({"check": check, "unpack": unpack}[sys.argv[1]](*sys.argv[2:]))
