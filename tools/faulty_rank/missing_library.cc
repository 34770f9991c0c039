// Of a library that will not be there.
int longhaul_missing() {
  return 0;
}
