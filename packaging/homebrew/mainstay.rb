# Homebrew formula. A release replaces HOMEPAGE, URL and SHA256 by those of its source archive and
# puts it into a tap. It has never been run.
class Mainstay < Formula
  desc "Local-first supervision runtime: keep it running, and be able to say why"
  homepage "HOMEPAGE"
  url "URL"
  sha256 "SHA256"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "rust" => :build

  def install
    system "cargo", "install", *std_cargo_args
    generate_completions_from_executable(bin/"mainstay", "completions")
    system bin/"mainstay", "man", man1
  end

  def caveats
    <<~EOS
      mainstay makes a system a service itself:
        mainstay service install --explain
    EOS
  end

  test do
    system bin/"mainstay", "init", "--config", testpath/"config"
    system bin/"mainstay", "check", "--config", testpath/"config"
  end
end
