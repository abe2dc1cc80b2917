"""ttt: does this model keep learning, and what does it forget?"""

__version__ = "0.2.0"
