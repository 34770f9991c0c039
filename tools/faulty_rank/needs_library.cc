// Cannot start without its library.
int longhaul_missing();

int main() {
  return longhaul_missing();
}
