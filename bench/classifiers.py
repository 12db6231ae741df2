# Logistic regression by zipml and by scikit-learn on a user's LIBSVM or CSV file: seconds of training on one core, and the
# loss above the exact optimum.
#
#     /usr/bin/python3 bench/classifiers.py build/examples/train FILE...
#
# Both minimise mean log(1 + e^(-y z)) + 1e-4 / 2 |x|^2 on standardised columns. zipml's seconds are packing, set-up and 20
# epochs; those of scikit-learn begin with a float64 matrix that is standardised already.
import json
import os
import subprocess
import sys
import time
import warnings

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np
from sklearn.datasets import load_svmlight_file
from sklearn.linear_model import LogisticRegression, SGDClassifier

warnings.filterwarnings("ignore")
l2 = 1e-4


def load(path):
    if path.endswith(".csv"):
        with open(path) as file:
            first = file.readline()
        header = 0 if all(c in "0123456789.+-eE,\n\r" for c in first) else 1
        table = np.loadtxt(path, delimiter=",", skiprows=header)
        x, labels = table[:, :-1], table[:, -1]
    else:
        x, labels = load_svmlight_file(path)
        x = x.toarray()
    deviation = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return np.ascontiguousarray(x), np.where(labels == labels.max(), 1.0, -1.0)


def objective(x, y, weights, intercept):
    return np.logaddexp(0, -y * (x @ weights + intercept)).mean() + l2 / 2 * (weights @ weights)


def zipml(train, path, bits):
    best = None
    for _ in range(3):
        how = [train, path, "--loss", "logistic", "--l2", str(l2), "--bits", str(bits), "--json"]
        run = json.loads(subprocess.run(how, capture_output=True, check=True, text=True).stdout)
        seconds = run["seconds_quantize"] + run["seconds_train"]
        if best is None or seconds < best[0]:
            best = (seconds, run["train_loss"], run["optimum_loss"])
    return best


train = sys.argv[1]
for path in sys.argv[2:]:
    x, y = load(path)
    c = 1 / (l2 * len(y))
    print(f"{path}: {x.shape[0]} x {x.shape[1]}")
    optimum = None
    for bits in (2, 4, 32):
        seconds, loss, optimum = zipml(train, path, bits)
        print(f"  zipml, {bits} bits{'':17.17} {seconds:8.3f} s  {100 * (loss / optimum - 1):9.4f} %", flush=True)
    peers = {
        "LogisticRegression(lbfgs)": LogisticRegression(C=c, max_iter=200),
        "LogisticRegression(saga)": LogisticRegression(C=c, solver="saga", max_iter=20),
        "LogisticRegression(liblinear)": LogisticRegression(C=c, solver="liblinear"),
        "SGDClassifier, 20 epochs": SGDClassifier(loss="log_loss", alpha=l2, max_iter=20, tol=None, random_state=1),
        "SGDClassifier, averaged": SGDClassifier(
            loss="log_loss", alpha=l2, max_iter=20, tol=None, random_state=1, average=True
        ),
    }
    for name, model in peers.items():
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            model.fit(x, y)
            best = min(best, time.perf_counter() - start)
        loss = objective(x, y, model.coef_.ravel(), float(model.intercept_[0]))
        print(f"  {name:30.30} {best:8.3f} s  {100 * (loss / optimum - 1):9.4f} %", flush=True)
