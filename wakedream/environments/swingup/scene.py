"""A cart and its pole in MuJoCo: dm_control's model, and pictures of it drawn without a screen.

dm_control itself, 56 MB and SciPy with it, is not needed, only its description of the task (suite/cartpole.xml and
suite/common of github.com/google-deepmind/dm_control, Apache License 2.0). Masses, shapes, forces and time step are
its own. The camera stands further back, so that the cart is seen up to the ends of its rail; the pole is drawn thicker
and lighter for that. No shadows: on a CPU they take twenty times as long as all else.
"""

import contextlib
import ctypes.util
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from wakedream.environments.pixels import Size, resize
from wakedream.errors import MissingExtraError, require

FINER = 4  # the picture is drawn so many times larger and a pixel is the mean: the pole is about two pixels thick
MODEL = """
<mujoco model="cart-pole">
  <option timestep="0.01" integrator="RK4">
    <flag contact="disable" energy="enable"/>
  </option>
  <visual>
    <headlight ambient=".4 .4 .4" diffuse=".8 .8 .8" specular="0.1 0.1 0.1"/>
    <map znear=".01"/>
    <quality shadowsize="0" offsamples="0"/>
    <global offwidth="{width}" offheight="{height}"/>
  </visual>
  <asset>
    <texture name="skybox" type="skybox" builtin="gradient" rgb1=".4 .6 .8" rgb2="0 0 0" width="128" height="128"/>
    <texture name="grid" type="2d" builtin="checker" rgb1=".1 .2 .3" rgb2=".2 .3 .4" width="300" height="300"
             mark="edge" markrgb=".2 .3 .4"/>
    <material name="grid" texture="grid" texrepeat="1 1" texuniform="true"/>
    <material name="decoration" rgba=".3 .5 .7 1"/>
    <material name="cart" rgba=".7 .5 .3 1"/>
    <material name="pole" rgba=".95 .75 .4 1"/>
  </asset>
  <worldbody>
    <light pos="0 0 6" castshadow="false"/>
    <camera name="far" pos="0 -5.5 1" zaxis="0 -1 0"/>
    <geom type="plane" pos="0 0 -.05" size="4 4 .2" material="grid"/>
    <geom type="capsule" pos="0  .07 1" zaxis="1 0 0" size="0.02 2" material="decoration"/>
    <geom type="capsule" pos="0 -.07 1" zaxis="1 0 0" size="0.02 2" material="decoration"/>
    <body pos="0 0 1">
      <joint type="slide" limited="true" axis="1 0 0" range="-1.8 1.8" solreflimit=".08 1" damping="5e-4"
             name="slider"/>
      <geom type="box" size="0.2 0.15 0.1" mass="1" material="cart"/>
      <body>
        <joint type="hinge" axis="0 1 0" damping="2e-6"/>
        <geom type="capsule" fromto="0 0 0 0 0 1" size="0.045" mass=".1" group="4"/>
        <geom type="capsule" fromto="0 0 0 0 0 1" size="0.065" mass="0" material="pole"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="slider" gear="10" ctrllimited="true" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"""  # group 4 is not drawn


class Scene:
    """The model, a state of it, and its picture.

    data.qpos  where the cart is, -1.8 to 1.8, and the pole's angle, 0 where it is upright; data.qvel: their rates
    """

    def __init__(self, size: Size):
        self.size = size
        height, width = (FINER * side for side in size)
        with _explained():
            self.mujoco: Any = require("mujoco", "swingup")
            self.model = self.mujoco.MjModel.from_xml_string(MODEL.format(height=height, width=width))
            self.data = self.mujoco.MjData(self.model)
            self.canvas = _Canvas(self.mujoco, self.model, height, width)

    def place(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Begin anew with this state."""
        self.mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = qpos, qvel

    def push(self, force: float) -> None:
        """A hundredth of a second under `force`, -1 to 1."""
        self.data.ctrl[0] = force
        self.mujoco.mj_step(self.model, self.data)

    def become(self, other: "Scene") -> None:
        everything = self.mujoco.mjtState.mjSTATE_INTEGRATION  # that the next step depends on
        state = np.empty(self.mujoco.mj_stateSize(self.model, everything))
        self.mujoco.mj_getState(other.model, other.data, state, everything)
        self.mujoco.mj_setState(self.model, self.data, state, everything)

    def draw(self) -> np.ndarray:
        """uint8 (*size 3)."""
        self.mujoco.mj_kinematics(self.model, self.data)  # where things are; the state stays as it is
        self.mujoco.mj_camlight(self.model, self.data)
        return resize(self.canvas.draw(self.data), self.size).copy()  # else it cannot be written to

    def close(self) -> None:
        self.canvas.close()


class _Canvas:
    """Where one model is drawn, without a screen."""

    def __init__(self, mujoco: Any, model: Any, height: int, width: int):
        self.mujoco, self.model = mujoco, model
        self.context = _way_to_draw(mujoco)(width, height)
        self.context.make_current()
        self.drawn = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.drawn)
        self.things, self.options, self.camera = mujoco.MjvScene(model, 100), mujoco.MjvOption(), mujoco.MjvCamera()
        self.camera.type, self.camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
        self.area, self.picture = mujoco.MjrRect(0, 0, width, height), np.zeros((height, width, 3), np.uint8)

    def draw(self, data: Any) -> np.ndarray:
        self.context.make_current()  # that of another environment may be
        self.mujoco.mjv_updateScene(self.model, data, self.options, None, self.camera, self.mujoco.mjtCatBit.mjCAT_ALL,
                                    self.things)
        self.mujoco.mjr_render(self.area, self.things, self.drawn)
        self.mujoco.mjr_readPixels(self.picture, None, self.area, self.drawn)
        return self.picture[::-1]

    def close(self) -> None:
        self.context.make_current()
        self.drawn.free()
        self.context.free()


def _way_to_draw(mujoco: Any) -> Any:
    """What MUJOCO_GL says, else what there is: MuJoCo's own choice on Linux is a window."""
    if sys.platform != "linux":
        return mujoco.GLContext
    name = os.environ.get("MUJOCO_GL") or ("egl" if ctypes.util.find_library("EGL") else "osmesa")
    return importlib.import_module(f"mujoco.{name.lower()}").GLContext


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """What MuJoCo raises where it cannot draw is of any kind and does not say what to do."""
    try:
        yield
    except MissingExtraError:
        raise
    except Exception as error:
        asked = os.environ.get("MUJOCO_GL")
        raise MissingExtraError(
            f"swingup cannot draw without a screen (MUJOCO_GL {f'is {asked}' if asked else 'is not set'}; "
            f"{type(error).__name__}: {error}): install EGL (Debian, Ubuntu: libegl1 and libgl1; a GPU's driver brings "
            "its own) or OSMesa (libosmesa6), and leave MUJOCO_GL unset or set it to egl or osmesa") from error
