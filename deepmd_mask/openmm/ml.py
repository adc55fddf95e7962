# SPDX-License-Identifier: LGPL-3.0-or-later
"""The potential "deepmd-mask" of OpenMM-ML, found through the entry point openmmml.potentials."""

from collections.abc import Iterable
from typing import Any

import openmm
from openmm import app
from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory

from ..shared.paths import Paths
from .dp_region import DPRegion
from .labels import Labels
from .making import dp_force


class MaskPotential(MLPotentialImpl):
    """A model of se_a_mask in the place of a force field.

    Parameters
    ----------
    model
        The frozen model, or several.
    options
        Of `dp_force`: units, types, the name of the scale, the device and the precision.
    """

    def __init__(self, model: Paths, **options: Any) -> None:
        super().__init__()
        self.model = model
        self.options = options

    def addForces(
        self,
        topology: app.Topology,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,
        **args: Any,
    ) -> None:
        """Add the force on a fixed region.

        Parameters
        ----------
        topology, system
            Of all atoms.
        atoms
            The region; None for all atoms.
        forceGroup
            Of the force.
        args
            Not used; those of other parts of OpenMM-ML come along.

        Raises
        ------
        ValueError
            If the region is a whole periodic system, whose images the model would not see, or the
            model has no type for an atom.
        """
        known = system if system.getNumParticles() > 0 else None  # empty where it interpolates
        if atoms is None:
            if topology.getPeriodicBoxVectors() is not None:
                msg = (
                    "se_a_mask has no periodic images, so it cannot describe a whole periodic "
                    "system: use createMixedSystem, or take the box out of the topology with "
                    "setPeriodicBoxVectors(None)"
                )
                raise ValueError(msg)
            known = None  # its virtual sites are not set up
            labels = Labels.of(topology, self.options.get("types", "element"))
            real = (k for k, symbol in enumerate(labels.symbols) if symbol or k in labels.unknown)
            atoms = list(real)
        atoms = list(atoms)
        if not atoms:
            raise ValueError("ML region: it has no atoms; give createMixedSystem some")
        region = DPRegion(centres=atoms[:1], atoms=atoms, name="ML region")
        force = dp_force(self.model, topology, region, **{"system": known, **self.options})
        force.setForceGroup(forceGroup)
        system.addForce(force)

    def getMLLongRange(self) -> bool:
        """Return False: the model knows no images."""
        return False


class MaskPotentialFactory(MLPotentialImplFactory):
    """Makes what ``MLPotential("deepmd-mask", modelPath=...)`` stands for."""

    def createImpl(self, name: str, modelPath: Paths | None = None, **args: Any) -> MaskPotential:
        """Make the potential.

        Parameters
        ----------
        name
            "deepmd-mask".
        modelPath
            The frozen model, or several.
        args
            Of `dp_force`: units, types, the name of the scale, the device and the precision.

        Raises
        ------
        ValueError
            If there is no model.
        """
        if modelPath is None:
            msg = f'give a frozen model, as in MLPotential("{name}", modelPath="model.pb")'
            raise ValueError(msg)
        return MaskPotential(modelPath, **args)
