/* SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Frozen models of deepmd-mask for programs in C and whatever calls C: energies, forces and virials
 * of molecules, without TensorFlow, DeePMD-kit or Python. `dp-mask c-flags` prints what compiler
 * and linker have to be told.
 *
 * Arrays are row-major and the caller's; nothing is kept of them. Units are the model's: Å, eV and
 * eV/Å, if it was trained on data of dp-mask pack. There are no periodic images: cut molecules out
 * of a box and put them into one piece before.
 *
 * All functions may be called from several threads at once, also with one potential, but for
 * dpmask_close. Results do not depend on the number of threads, nor on what was evaluated before.
 */
#ifndef DEEPMD_MASK_H
#define DEEPMD_MASK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A model that was opened. */
typedef struct dpmask_potential dpmask_potential;

/* The version of deepmd-mask, as "1.2.3". */
const char* dpmask_version(void);

/* What went wrong in the last call of this thread that failed, or "" if none did. Valid until the
 * thread's next call that fails. */
const char* dpmask_error(void);

/* Opens a frozen model, a file that dp freeze, dp compress or dp-mask convert wrote. `threads` is
 * how many work on an evaluation, at most; 0 for OMP_NUM_THREADS or, if that is not set, as many as
 * this process has processors. Returns NULL if it fails; dpmask_error() then names the file. */
dpmask_potential* dpmask_open(const char* path, int threads);

/* Gives back all that the potential has. No call with it may be under way. NULL is allowed. */
void dpmask_close(dpmask_potential* potential);

/* The number of types. */
int dpmask_ntypes(const dpmask_potential* potential);

/* The name of a type, an element mostly; NULL if there is no such type, or if the model does not
 * name its types. Valid until the potential is closed. */
const char* dpmask_type_name(const dpmask_potential* potential, int type);

/* The type of a name; -1 if there is none. */
int dpmask_type_of(const dpmask_potential* potential, const char* name);

/* The most atoms of a type that the model was trained for; -1 if there is no such type. More are
 * evaluated, too, but the model may not have seen the like: a line on stderr says so, once for each
 * potential. */
int64_t dpmask_sel(const dpmask_potential* potential, int type);

/* How many threads work on an evaluation, at most. */
int dpmask_threads(const dpmask_potential* potential);

/* Evaluates nframes molecules of natoms atoms each. Returns 0, or -1 if it fails; results are then
 * undefined, and dpmask_error() names the atom, counted from 0, and the frame, if there are
 * several.
 *
 *   types      [nframes, natoms]; in any order; of a virtual atom any, or -1
 *   positions  [nframes, natoms, 3]; not read for virtual atoms
 *   weights    [nframes, natoms], the mask: 1 for a real atom, 0 for a virtual one, which has no
 *              energy, feels no force, and is not there for others. NULL: all are real
 *   energy     [nframes]
 *   energies   [nframes, natoms]; of each atom; they sum to energy
 *   forces     [nframes, natoms, 3]; minus the gradient of energy
 *   virial     [nframes, 9]; minus the derivative of energy by strain, the sum of r F over atoms;
 *              its row is the direction of the force
 *
 * Each of the last four may be NULL if it is not wanted. Repeated calls with as many frames and
 * atoms of each type take no new memory. */
int dpmask_evaluate(dpmask_potential* potential, int64_t nframes, int64_t natoms,
                    const int32_t* types, const double* positions, const double* weights,
                    double* energy, double* energies, double* forces, double* virial);

/* The same for atoms that may be there in part, as at the smooth edge of a region.
 *
 *   weights          as above, or anything between 0 and 1; real atoms of a group have one weight.
 *                    An atom with the weight w has w times its energy, and counts w times for atoms
 *                    of other groups, whole for those of its own
 *   groups           [nframes, natoms]; any numbers: atoms of a frame that have the same one are a
 *                    group, a residue mostly. Not read for virtual atoms
 *   forces, virial   at fixed weights: who moves weights with positions adds weight_gradient times
 *                    their derivatives
 *   weight_gradient  [nframes, natoms]; the derivative of energy by the weight of each atom, whose
 *                    sum over a group is that by the group's; 0 for virtual atoms. May be NULL
 *
 * groups may be NULL together with weight_gradient, and weights are 0 and 1 then. */
int dpmask_evaluate_weighted(dpmask_potential* potential, int64_t nframes, int64_t natoms,
                             const int32_t* types, const double* positions, const double* weights,
                             const int64_t* groups, double* energy, double* energies,
                             double* forces, double* virial, double* weight_gradient);

#ifdef __cplusplus
}
#endif

#endif
