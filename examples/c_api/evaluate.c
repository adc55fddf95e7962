/* SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Evaluates a frozen model of se_a_mask through the C API of DeePMD-kit's wheel.
 *
 *     evaluate MODEL ATOMS
 *
 * ATOMS has a line for each atom, in any order: its type's name, its mask (1 for a real atom, 0 for
 * a virtual one), x, y, z; empty lines do not count. Prints the energy, then the force on each atom
 * and its energy, in the model's units. docs/c_api.md says how to compile and run it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The wheel has the library, libdeepmd_c.so, and not its header: what is used here of
 * deepmd/c_api.h. */
typedef struct DP_DeepPot DP_DeepPot;
DP_DeepPot* DP_NewDeepPot(const char* model);
void DP_DeleteDeepPot(DP_DeepPot* potential);
const char* DP_DeepPotGetTypeMap(DP_DeepPot* potential); /* names, with a space between them */
const char* DP_DeepPotCheckOK(DP_DeepPot* potential);    /* "" or what went wrong */
void DP_DeleteChar(const char* text);                    /* for both of these */
void DP_DeepPotCompute2(DP_DeepPot* potential, int nframes, int natoms,
                        const double* coord, /* [nframes, natoms, 3] */
                        const int* type,     /* [natoms] */
                        const double* cell,  /* NULL: not periodic */
                        const double* fparam,
                        const double* aparam, /* the mask, [nframes, natoms] */
                        double* energy,       /* [nframes] */
                        double* force,        /* [nframes, natoms, 3] */
                        double* virial,       /* [nframes, 9] or NULL */
                        double* atom_energy,  /* [nframes, natoms] or NULL */
                        double* atom_virial); /* [nframes, natoms, 9] or NULL */

enum { MOST_ATOMS = 4096, LONGEST_LINE = 256 };

typedef struct {
  int count;
  int type[MOST_ATOMS];
  double mask[MOST_ATOMS];
  double coord[MOST_ATOMS][3];
} Atoms;

static void stop_if_wrong(DP_DeepPot* potential) {
  const char* message = DP_DeepPotCheckOK(potential);
  if (*message) {
    fprintf(stderr, "%s\n", message);
    exit(EXIT_FAILURE);
  }
  DP_DeleteChar(message);
}

/* Returns the index of a name in the type map, or -1. */
static int type_of(const char* name, const char* type_map) {
  const size_t length = strlen(name);
  for (int type = 0; *type_map; ++type) {
    const size_t next = strcspn(type_map, " ");
    if (next == length && strncmp(name, type_map, length) == 0) return type;
    type_map += next + strspn(type_map + next, " ");
  }
  return -1;
}

static void fail(const char* path, int line, const char* what, const char* more) {
  fprintf(stderr, "%s, line %d: %s%s\n", path, line, what, more);
  exit(EXIT_FAILURE);
}

/* Appends the atom of a line. The library names atoms as it sorts them, by type, so what it would
 * refuse in one of them is refused here. */
static void add_atom(const char* path, int line, const char* text, const char* type_map,
                     Atoms* atoms) {
  char name[32], more;
  double mask, x, y, z;
  if (sscanf(text, "%31s %lf %lf %lf %lf %c", name, &mask, &x, &y, &z, &more) != 5) {
    fail(path, line, "expected NAME MASK X Y Z", "");
  }
  const int type = type_of(name, type_map);
  if (type < 0) fail(path, line, name, " is not among the model's types");
  if (mask != 0 && mask != 1) fail(path, line, "the mask must be 1 (real) or 0 (virtual)", "");
  if (!isfinite(x) || !isfinite(y) || !isfinite(z)) {
    fail(path, line, "a coordinate is not a finite number", "");
  }
  const int atom = atoms->count++;
  if (atom == MOST_ATOMS) fail(path, line, "too many atoms; raise MOST_ATOMS", "");
  atoms->type[atom] = type;
  atoms->mask[atom] = mask;
  atoms->coord[atom][0] = x;
  atoms->coord[atom][1] = y;
  atoms->coord[atom][2] = z;
}

static void read_atoms(const char* path, const char* type_map, Atoms* atoms) {
  FILE* file = fopen(path, "r");
  if (!file) {
    perror(path);
    exit(EXIT_FAILURE);
  }
  char text[LONGEST_LINE];
  for (int line = 1; fgets(text, sizeof text, file); ++line) {
    if (!strchr(text, '\n') && !feof(file)) fail(path, line, "the line is too long", "");
    if (text[strspn(text, " \t\r\n")]) add_atom(path, line, text, type_map, atoms);
  }
  if (ferror(file)) {
    perror(path);
    exit(EXIT_FAILURE);
  }
  if (atoms->count == 0) fail(path, 1, "there are no atoms", "");
  fclose(file);
}

int main(int argc, char** argv) {
  static Atoms atoms;
  static double energy, force[MOST_ATOMS][3], atom_energy[MOST_ATOMS];
  if (argc != 3) {
    fprintf(stderr, "usage: evaluate MODEL ATOMS\n");
    return EXIT_FAILURE;
  }
  DP_DeepPot* potential = DP_NewDeepPot(argv[1]);
  stop_if_wrong(potential);
  const char* type_map = DP_DeepPotGetTypeMap(potential);
  read_atoms(argv[2], type_map, &atoms);
  DP_DeleteChar(type_map);

  DP_DeepPotCompute2(potential, 1, atoms.count, &atoms.coord[0][0], atoms.type, NULL, NULL,
                     atoms.mask, &energy, &force[0][0], NULL, atom_energy, NULL);
  stop_if_wrong(potential);
  printf("energy %.15g\n", energy);
  for (int atom = 0; atom < atoms.count; ++atom) {
    printf("atom %d force %.15g %.15g %.15g energy %.15g\n", atom, force[atom][0], force[atom][1],
           force[atom][2], atom_energy[atom]);
  }
  DP_DeleteDeepPot(potential);
  return EXIT_SUCCESS;
}
