"""Classical preparation, a task on each node: at which last detuning does the chessboard win by the most?

`srun python3 prepare.py` prints a line `GAP DETUNING` for each task, of the best detuning among those of this task:
the energy of every pattern of excitations is computed, and the gap is from the chessboard's to the next one's. The
best line of all is the detuning to use: `sort -n | tail -1`. Units: rad/µs; standard library only.
"""

import itertools
import math
import os

U = 1.8 * 2 * math.pi  # interaction of neighbours, as in sequence.py
SIDE = 3
CHESSBOARD = tuple((row + column + 1) % 2 for row in range(SIDE) for column in range(SIDE))
CANDIDATES = [U * (0.5 + 0.02 * step) for step in range(100)]


def interactions():
    """The energy of each pair of atoms that are both excited: falls with the sixth power of their distance."""
    places = list(itertools.product(range(SIDE), repeat=2))
    pairs = itertools.combinations(range(len(places)), 2)
    return {(one, two): U / math.dist(places[one], places[two]) ** 6 for one, two in pairs}


def gap(detuning, repulsions):
    """By how much the chessboard is lower than every other pattern; negative if another one is lower."""
    energies = {pattern: repulsion - detuning * sum(pattern) for pattern, repulsion in repulsions.items()}
    return min(energy for pattern, energy in energies.items() if pattern != CHESSBOARD) - energies[CHESSBOARD]


def main():
    """Try this task's candidates and print the best."""
    pairs = interactions()
    patterns = itertools.product((0, 1), repeat=SIDE * SIDE)
    repulsions = {one: sum(cost for (a, b), cost in pairs.items() if one[a] and one[b]) for one in patterns}
    task, tasks = int(os.environ.get("SLURM_PROCID", "0")), int(os.environ.get("SLURM_NTASKS", "1"))
    print(*max((gap(detuning, repulsions), detuning) for detuning in CANDIDATES[task::tasks]))


if __name__ == "__main__":
    main()
