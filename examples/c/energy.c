/* SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Energy and forces of a molecule by a frozen model of se_a_mask.
 *
 *     energy MODEL MOLECULE.xyz
 *
 * Prints the energy, then the force on each atom, in the model's units. docs/c.md says how to
 * compile it.
 */
#include <deepmd_mask.h>
#include <stdio.h>
#include <stdlib.h>

/* XYZ: the number of atoms, a line that is skipped, then a name and x, y, z for each atom. */
typedef struct {
  int natoms;
  int32_t* types;    /* [natoms] */
  double* positions; /* [natoms, 3] */
} Molecule;

static void stop(const char* where, const char* what) {
  fprintf(stderr, "%s: %s\n", where, what);
  exit(EXIT_FAILURE);
}

static void read_line(const char* path, FILE* file, char line[256]) {
  if (!fgets(line, 256, file)) stop(path, "ends before its last atom");
}

static Molecule read_xyz(const char* path, const dpmask_potential* potential) {
  Molecule molecule;
  char line[256], name[16];
  FILE* file = fopen(path, "r");
  if (!file) stop(path, "cannot be opened");
  read_line(path, file, line);
  molecule.natoms = atoi(line);
  if (molecule.natoms < 1) stop(path, "does not begin with the number of atoms");
  molecule.types = malloc(molecule.natoms * sizeof *molecule.types);
  molecule.positions = malloc(3 * molecule.natoms * sizeof *molecule.positions);
  if (!molecule.types || !molecule.positions) stop(path, "has more atoms than there is memory for");
  read_line(path, file, line);
  for (int i = 0; i < molecule.natoms; ++i) {
    double* r = molecule.positions + 3 * i;
    read_line(path, file, line);
    if (sscanf(line, "%15s %lf %lf %lf", name, r, r + 1, r + 2) != 4) {
      stop(path, "has a line that is not NAME X Y Z");
    }
    molecule.types[i] = dpmask_type_of(potential, name);
    if (molecule.types[i] < 0) stop(name, "is not among the model's types");
  }
  fclose(file);
  return molecule;
}

int main(int argc, char** argv) {
  if (argc != 3) stop("usage", "energy MODEL MOLECULE.xyz");
  dpmask_potential* potential = dpmask_open(argv[1], 0);
  if (!potential) stop("cannot open the model", dpmask_error());
  const Molecule molecule = read_xyz(argv[2], potential);
  double energy, *forces = malloc(3 * molecule.natoms * sizeof *forces);
  if (!forces) stop(argv[2], "has more atoms than there is memory for");

  if (dpmask_evaluate(potential, 1, molecule.natoms, molecule.types, molecule.positions, NULL,
                      &energy, NULL, forces, NULL) != 0) {
    stop(argv[2], dpmask_error());
  }
  printf("energy %.17g\n", energy);
  for (int i = 0; i < molecule.natoms; ++i) {
    const double* F = forces + 3 * i;
    printf("%s %.17g %.17g %.17g\n", dpmask_type_name(potential, molecule.types[i]), F[0], F[1],
           F[2]);
  }

  free(forces);
  free(molecule.positions);
  free(molecule.types);
  dpmask_close(potential);
  return EXIT_SUCCESS;
}
