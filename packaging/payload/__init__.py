"""How build/pilot.pyz and build/pilot.sh are made. Run `python packaging/build_payload.py`."""
