"""A home store for the tests: a JSON file of names, each with a version and a secret. OLD=1: it knows only `get`."""
import fcntl, json, os, sys

path = sys.argv[1]
request = json.load(sys.stdin)
operation, at = request["operation"], request["at"]
assert operation == sys.argv[-1] and request["version"] == 1
lock = open(path + ".lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
with open(path) as file:
    held = json.load(file)


def answer(**members):
    print(json.dumps(members))
    sys.exit(0)


if os.environ.get("OLD") and operation != "get":
    sys.exit(64)
if operation == "versions":
    answer(versions={name: held[name]["version"] if name in held else None for name in at})
if at not in held:
    sys.exit(66)
if operation == "store":
    if str(held[at]["version"]) != request["expected"]:
        answer(error="conflict")
    held[at] = {"version": held[at]["version"] + 1, "secret": request["secret"]}
    with open(path + ".new", "w") as file:
        json.dump(held, file)
    os.rename(path + ".new", path)
    answer(version=str(held[at]["version"]))
answer(secret=held[at]["secret"], **({} if os.environ.get("OLD") else {"version": held[at]["version"]}))
